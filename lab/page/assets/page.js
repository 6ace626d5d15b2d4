// The page: dashboards under tabs, drawn when they come into view; theme; and following live data.
(() => {
  const { element } = Poolscope;
  const data = JSON.parse(document.getElementById("data").textContent);
  Poolscope.format.setLocal(data.local === true);
  const contexts = new Map();
  const bodies = new Map();

  // --- drawing what is in view ------------------------------------------------------------------

  const waiting = new Map();
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) start(entry.target);
  }, { rootMargin: "400px" });

  function start(body) {
    const draw = waiting.get(body);
    if (!draw) return;
    waiting.delete(body);
    watcher.unobserve(body);
    draw();
  }

  function later(body, draw) {
    waiting.set(body, draw);
    watcher.observe(body);
  }

  // All that can be come to by scrolling; what is folded away is drawn once it is opened.
  const drawAll = Poolscope.drawAll = () => [...waiting.keys()]
    .filter((body) => !body.closest("details:not([open])")).forEach(start);

  // --- dashboards -------------------------------------------------------------------------------

  function context(dashboard) {
    return { grid: dashboard.grid, marks: dashboard.marks, zoom: null, group: dashboard.uid };
  }

  function layout(dashboard, host) {
    const shared = context(dashboard);
    contexts.set(dashboard.uid, shared);
    if (dashboard.text) host.append(element("p", { class: "lead" }, dashboard.text));
    let grid = null;
    let offset = 0;
    for (const panel of dashboard.panels) {
      if (panel.type === "row" || !grid) {
        grid = element("div", { class: "grid" });
        host.append(row(panel, grid));
        if (panel.type === "row") offset = panel.at[1] + 1;
        if (panel.type === "row") continue;
      }
      grid.append(place(panel, offset, shared, dashboard.uid));
    }
  }

  const named = (dashboard) => {
    const short = dashboard.title.replace(/^Poolscope:?\s*/i, "");
    return short.charAt(0).toUpperCase() + short.slice(1) || dashboard.uid;
  };

  // Links to the pages that have more of a panel, as far as they are in this file.
  function leads(panel, uid) {
    return data.dashboards.filter((d) => d.uid !== uid && (panel.more || []).includes(d.uid))
      .map((d) => element("a", { class: "more", href: `#${d.uid}`,
                                 "aria-label": `more: ${named(d)}` }, `${named(d)} ›`));
  }

  // A row and its name; one that is folded in Grafana is folded here.
  function row(panel, grid) {
    const title = panel.type === "row" && panel.title && element("h2", {}, panel.title);
    if (!title || !panel.folded) return element("section", { class: "row" }, title || null, grid);
    return element("details", { class: "row" }, element("summary", {}, title), grid);
  }

  function place(panel, offset, shared, uid) {
    const [x, y, w, h] = panel.at;
    const { made, body } = Poolscope.frame(panel);
    made.classList.add(w <= 4 ? "narrow" : w <= 8 ? "third" : w <= 12 ? "half" : "wide");
    made.style.setProperty("--column", `${x + 1} / span ${w}`);
    made.style.setProperty("--line", `${Math.max(1, y - offset + 1)} / span ${h}`);
    made.style.setProperty("--tall", h);
    made.querySelector(".panel-head").append(...leads(panel, uid));
    if (panel.type === "text") {
      body.append(...Poolscope.prose(panel.content || ""));
      return made;
    }
    bodies.set(`${uid} ${panel.id}`, { body, panel });
    later(body, () => {
      const now = bodies.get(`${uid} ${panel.id}`).panel;
      Poolscope.draw(body, now, shared);
    });
    return made;
  }

  // --- tabs: one dashboard at a time, its name in the address --------------------------------------

  const main = document.getElementById("main");
  const tabs = document.getElementById("tabs");
  const shownUid = () => {
    const wanted = decodeURIComponent(location.hash.slice(1));
    return data.dashboards.some((d) => d.uid === wanted) ? wanted : data.dashboards[0].uid;
  };

  function show() {
    const uid = shownUid();
    for (const link of tabs.querySelectorAll("a")) {
      if (link.hash.slice(1) === uid) {
        link.setAttribute("aria-current", "page");
        link.scrollIntoView({ block: "nearest", inline: "nearest" });
      } else link.removeAttribute("aria-current");
    }
    for (const host of main.querySelectorAll(".dashboard")) {
      const on = host.dataset.uid === uid;
      host.hidden = !on;
      if (on && !host.dataset.laid) {
        host.dataset.laid = "yes";
        layout(data.dashboards.find((d) => d.uid === uid), host);
      }
    }
    document.title = `${data.dashboards.find((d) => d.uid === uid).title} · ${data.name}`;
  }

  function dashboards() {
    for (const dashboard of data.dashboards) {
      tabs.append(element("a", { href: `#${dashboard.uid}` }, named(dashboard)));
      main.append(element("div", { class: "dashboard", "data-uid": dashboard.uid, hidden: true }));
    }
    addEventListener("hashchange", () => { show(); scrollTo(0, 0); if (data.live) poll(); });
    show();
  }

  // --- the report: panels stand where the text has a place for them -----------------------------------

  function placed() {
    for (const host of document.querySelectorAll("[data-panel]")) {
      const panel = data.panels[host.dataset.panel];
      const { made, body } = Poolscope.frame(panel);
      made.style.setProperty("--tall", panel.at[3]);
      host.replaceWith(made);
      const shared = { grid: panel.grid || [0, 1, 0], marks: panel.marks || [], zoom: null,
                       group: panel.group };
      bodies.set(host.dataset.panel, { body, panel });
      later(body, () => Poolscope.draw(body, panel, shared));
    }
    for (const table of document.querySelectorAll("table.sortable")) Poolscope.sortable(table);
  }

  // --- live -------------------------------------------------------------------------------------

  let timer = null;
  let asking = false;
  let paused = false;
  let answered = Date.now() / 1e3;
  const state = document.getElementById("state");

  function tell(kind, text) {
    if (state.textContent !== text) state.textContent = text;
    state.className = `state ${kind}`;
    document.body.classList.toggle("stale", kind === "lost");
  }

  // Unix seconds of what is shown: the run as a whole, or the last of it.
  function stretch() {
    const { began, ended, longest_s } = data.live;
    const to = ended ? Math.ceil(ended) : Math.floor(Date.now() / 1e3);
    const chosen = document.getElementById("length").value;
    const from = chosen === "run" ? Math.max(Math.floor(began), to - longest_s) : to - Number(chosen);
    return [Math.min(from, to - 1), to];
  }

  async function poll() {
    if (asking) return;
    asking = true;
    let lost = false;
    clearTimeout(timer);
    const uid = shownUid();
    const [from, to] = stretch();
    try {
      const answer = await fetch(`data/${uid}?from=${from}&to=${to}`, { cache: "no-store" });
      const found = await answer.json();
      if (!answer.ok) throw new Error(found.error);
      renew(found);
      answered = Date.now() / 1e3;
      tell("on", data.live.ended ? "ended" : paused ? "paused" : `live, every ${data.live.interval_s} s`);
    } catch (error) {
      lost = true;
      const why = error instanceof TypeError ? data.live.again : error.message;
      tell("lost", `no answer since ${Poolscope.format.clock(answered)}: ${why}`);
    }
    asking = false;
    if (shownUid() !== uid) poll(); // the tab was changed in the meantime
    else if (following() || lost && !paused) timer = setTimeout(poll, data.live.interval_s * 1e3);
  }

  function renew(dashboard) {
    const shared = contexts.get(dashboard.uid);
    if (!shared) return;
    Object.assign(shared, { grid: dashboard.grid, marks: dashboard.marks });
    for (const panel of dashboard.panels) {
      const kept = bodies.get(`${dashboard.uid} ${panel.id}`);
      if (!kept) continue;
      kept.panel = panel;
      if (!waiting.has(kept.body)) Poolscope.draw(kept.body, panel, shared);
    }
  }

  const following = () => !paused && !data.live.ended;

  function live() {
    const pause = document.getElementById("pause");
    const length = document.getElementById("length");
    if (data.live.began) {
      length.prepend(element("option", { value: "run" }, "the run"));
      length.value = "run";
    }
    if (data.live.ended) {
      pause.hidden = true;
      tell("on", "ended");
    }
    pause.addEventListener("click", () => {
      paused = !paused;
      pause.setAttribute("aria-pressed", String(paused));
      pause.textContent = paused ? "Go on" : "Pause";
      if (paused) { clearTimeout(timer); tell("on", "paused"); } else poll();
    });
    length.addEventListener("change", () => {
      for (const shared of contexts.values()) shared.zoom = null;
      poll();
    });
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) clearTimeout(timer);
      else if (following()) poll();
    });
    poll();
  }

  // --- paper ------------------------------------------------------------------------------------

  // When this is called the page has the paper's width, or that of the screen again.
  function paper(on) {
    if (on) drawAll();
    recolor();
    for (const table of document.querySelectorAll("table")) {
      table.style.removeProperty("--fit");
      const share = on ? table.parentElement.clientWidth / table.offsetWidth : 1;
      if (share > 0 && share < 1) table.style.setProperty("--fit", String(share));
    }
  }

  // --- theme ------------------------------------------------------------------------------------

  const root = document.documentElement;
  const THEMES = ["auto", "light", "dark"];
  const store = (value) => {
    try {
      if (value === undefined) return localStorage.getItem("poolscope-theme");
      localStorage.setItem("poolscope-theme", value);
    } catch { /* a file's page may have no storage */ }
    return null;
  };

  function theme(name) {
    if (name === "auto") delete root.dataset.theme;
    else root.dataset.theme = name;
    const button = document.getElementById("theme");
    button.querySelector("span").textContent = name;
    button.setAttribute("aria-label", `colours: ${name}; change`);
    recolor();
  }

  function recolor() {
    Poolscope.forgetColors();
    for (const chart of Poolscope.charts) chart.redraw();
    for (const { body, panel } of bodies.values()) {
      if (!waiting.has(body) && !body.chart) Poolscope.draw(body, panel, {});
    }
  }

  let current = THEMES.includes(store()) ? store() : "auto";
  document.getElementById("theme").addEventListener("click", () => {
    current = THEMES[(THEMES.indexOf(current) + 1) % THEMES.length];
    store(current);
    theme(current);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolor);

  theme(current);
  if (data.dashboards) dashboards();
  if (data.panels) placed();
  if (data.live) live();
  addEventListener("beforeprint", drawAll);
  matchMedia("print").addEventListener("change", (event) => paper(event.matches));
  root.dataset.ready = "yes";
})();
