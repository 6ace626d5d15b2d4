// Panels that are not over time: one value, and bars; and the frame around any panel.
(() => {
  const { element, color, palette } = Poolscope;

  // --- one value --------------------------------------------------------------------------------

  function stat(host, panel) {
    const fields = [
      ...panel.series.map((s) => ({ field: s, value: Poolscope.reduced(s, panel.options.calc) })),
      ...panel.tables.flatMap((table) => table.filter((c) => c.kind === "number").map((c) =>
        ({ field: c, value: c.values.find((v) => v !== null) ?? null }))),
    ];
    // What is not there is said as large as what is.
    if (!fields.length) fields.push({ field: { name: panel.title }, value: null });
    const many = fields.length > 1;
    const named = many || /name/.test(panel.options.textMode || "");
    host.replaceChildren(element("div", { class: `stats${many ? " many" : ""}` },
      ...fields.map(({ field, value }) => {
        const config = Poolscope.config(panel, field);
        const mapped = Poolscope.mapped(config, value);
        const step = Poolscope.threshold(config, value);
        const [digits, unit, space] = mapped && mapped.text ? [mapped.text, "", ""]
          : value === null ? [config.noValue || "-", "", ""] : Poolscope.format.parts(value, config.unit, config.decimals);
        const said = element("p", { class: "stat-value" }, digits,
          unit ? element("span", { class: "unit" }, (space ? "\u2009" : "") + unit) : null);
        const tone = (mapped && mapped.color) || (step && step.color);
        const shade = tone ? color(tone) : Poolscope.fixedColor(config);
        const box = element("div", { class: "stat" }, named
          ? element("p", { class: "stat-name" }, Poolscope.nameOf(panel, field)) : null, said);
        if (shade && panel.options.colorMode !== "none" && tone !== "green") {
          said.style.color = shade;
        }
        box.style.setProperty("--tone", shade || palette(0));
        if (field.values && field.at !== undefined && !panel.instant
            && panel.options.graphMode === "area" && field.values.length > 1) {
          box.append(spark(field, shade && tone !== "green" ? shade : palette(0)));
        }
        return box;
      })));
  }

  // A line without axes, as vectors: sharp at any size, and in print.
  function spark(series, tone) {
    const values = series.values;
    const there = values.filter((v) => v !== null);
    const [low, high] = [Math.min(0, ...there), Math.max(...there)];
    const y = (v) => (28 - ((v - low) / (high - low || 1)) * 26).toFixed(1);
    const x = (n) => ((n / (values.length - 1)) * 100).toFixed(2);
    let path = "";
    let area = "";
    let began = null;
    values.forEach((v, n) => {
      if (v === null) {
        if (began !== null) area += `L${x(n - 1)} 30L${x(began)} 30Z`;
        began = null;
        return;
      }
      if (began === null) area += `M${x(n)} ${y(v)}`;
      path += `${began === null ? "M" : "L"}${x(n)} ${y(v)}`;
      if (began === null) began = n;
      else area += `L${x(n)} ${y(v)}`;
    });
    if (began !== null) area += `L100 30L${x(began)} 30Z`;
    const svg = (tag, attributes) => {
      const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
      return made;
    };
    const picture = svg("svg", { class: "spark", viewBox: "0 0 100 30", "aria-hidden": "true",
                                 preserveAspectRatio: "none" });
    picture.append(
      svg("path", { d: area, fill: tone, "fill-opacity": "0.12" }),
      svg("path", { d: path, fill: "none", stroke: tone, "stroke-width": "1.4",
                    "stroke-linejoin": "round", "vector-effect": "non-scaling-stroke" }));
    return picture;
  }

  // --- bars -------------------------------------------------------------------------------------

  const REJECTED = "rejected: not to be trusted";

  // Rows of bars from a table (words name the row, each column of numbers is a bar) or from series.
  function rowsOf(panel) {
    if (!panel.tables.length) {
      return panel.series.map((s) => ({
        name: Poolscope.nameOf(panel, s),
        bars: [{ field: s, value: Poolscope.reduced(s, panel.options.calc) }],
      }));
    }
    return panel.tables.flatMap((table) => {
      const words = table.filter((c) => c.kind === "string");
      const numbers = table.filter((c) => c.kind === "number");
      const count = table.length ? table[0].values.length : 0;
      return Array.from({ length: count }, (_, n) => ({
        name: words.map((c) => c.values[n]).filter(Boolean).join(" · ")
          || numbers.map((c) => Poolscope.nameOf(panel, c)).join(", "),
        note: (panel.options.notes || [])[n],
        bars: numbers.map((c) => ({
          field: c, value: c.values[n], low: (c.low || [])[n], high: (c.high || [])[n],
          rejected: c.values[n] !== null && Boolean((c.rejected || [])[n]) })),
      }));
    });
  }

  function bars(host, panel) {
    const rows = rowsOf(panel).filter((row) => row.bars.some((b) => b.value !== null) || row.note);
    const names = [...new Set(rows.flatMap((r) => r.bars.map((b) => Poolscope.nameOf(panel, b.field))))];
    const single = panel.tables.length ? names.length < 2 : true;
    const marks = (panel.options.marks || []).filter((m) => m.value !== null);
    // Bars of one unit share a scale; another unit has its own.
    const most = {};
    for (const row of rows) {
      for (const b of row.bars) {
        const config = Poolscope.config(panel, b.field);
        const high = Math.max(b.value ?? 0, b.high ?? 0, config.max ?? 0);
        most[config.unit] = Math.max(most[config.unit] ?? 0, high);
      }
    }
    const near = marks.filter((m) => m.value <= (most[panel.config.unit] ?? 0) * 2);
    if (near.length) {
      most[panel.config.unit] = Math.max(most[panel.config.unit], ...near.map((m) => m.value));
    }
    const list = element("ul", { class: `bars${single ? "" : " grouped"}` }, ...rows.map((row) =>
      element("li", row.note ? { class: "noted" } : {},
        element("span", { class: "bar-name", title: row.name }, row.name),
        element("span", { class: "bar-set" }, ...row.bars.map((b) => {
          const config = Poolscope.config(panel, b.field);
          const place = names.indexOf(Poolscope.nameOf(panel, b.field));
          const step = Poolscope.threshold(config, b.value);
          const mapped = Poolscope.mapped(config, b.value);
          const tone = (mapped && mapped.color && color(mapped.color)) || Poolscope.fixedColor(config)
            || (step && single ? color(step.color) : palette(single ? 0 : place));
          const scale = most[config.unit] || 1;
          const share = (v) => `${Math.max(0, Math.min(100, (v / scale) * 100))}%`;
          const fill = element("span", { class: "bar-fill" });
          fill.style.inlineSize = b.value === null ? "0" : share(b.value);
          fill.style.background = tone;
          if (b.rejected && b.value > 0) {
            fill.classList.add("rejected");
            fill.style.setProperty("--tone", tone);
          }
          const track = element("span", { class: "bar-track", "aria-hidden": "true" }, fill);
          if (typeof b.low === "number" && b.high > b.low) {
            const whisker = element("span", { class: "whisker" });
            whisker.style.insetInlineStart = share(b.low);
            whisker.style.inlineSize = `calc(${share(b.high)} - ${share(b.low)})`;
            track.append(whisker);
          }
          for (const m of config.unit === panel.config.unit ? near : []) {
            const line = element("span", { class: "bar-mark", title: m.name });
            line.style.insetInlineStart = share(m.value);
            track.append(line);
          }
          const said = Poolscope.show(config, b.value);
          const label = single ? "" : `${Poolscope.nameOf(panel, b.field)}: `;
          return element("span", { class: "bar" }, track, element("span",
            b.rejected ? { class: "bar-value rejected", title: REJECTED } : { class: "bar-value" },
            element("span", { class: "sr-only" }, label), said, b.rejected ? "†" : null));
        })),
        row.note ? element("span", { class: "bar-note" }, row.note) : null)));
    host.replaceChildren(list);
    // A colour that was chosen means something, even where one alone is left.
    const chosen = panel.tables.length && rows.some((row) => row.bars.some((b) =>
      Poolscope.fixedColor(Poolscope.config(panel, b.field))));
    const rejected = rows.some((row) => row.bars.some((b) => b.rejected));
    if (panel.options.legend !== false && (!single || near.length || chosen || rejected)) {
      const entries = single && !chosen ? [] : names.map((name) => {
        const field = rows.flatMap((r) => r.bars).find((b) => Poolscope.nameOf(panel, b.field) === name).field;
        const swatch = element("span", { class: "swatch" });
        swatch.style.background = Poolscope.fixedColor(Poolscope.config(panel, field))
          || palette(names.indexOf(name));
        return element("li", {}, element("span", { class: "key" }, swatch, name));
      });
      if (rejected) {
        entries.push(element("li", {}, element("span", { class: "key" },
          element("span", { class: "swatch rejected" }), `† ${REJECTED}`)));
      }
      host.append(element("ul", { class: "legend" }, ...entries, ...near.map((m) =>
        element("li", {}, element("span", { class: "key" }, element("span", { class: "dash" }),
          `${m.name} ${Poolscope.format.text(m.value, panel.config.unit)}`)))));
    }
  }

  // --- any panel --------------------------------------------------------------------------------

  const DRAW = { stat, bargauge: bars, barchart: bars, table: Poolscope.table, gauge: stat };

  function empty(panel) {
    const drawn = panel.series.some((s) => s.values.some((v) => v !== null))
      || panel.tables.some((t) => t.length && t[0].values.length);
    return !drawn;
  }

  // Draws anew what may be in use: focus and scroll position stay where they were.
  function again(host, draw) {
    const inUse = () => [...host.querySelectorAll("button, [tabindex]")];
    const focused = inUse().indexOf(document.activeElement);
    const { scrollTop, scrollLeft } = host.querySelector(".scroller") || {};
    draw();
    if (focused >= 0) inUse()[focused]?.focus({ preventScroll: true });
    const scroller = host.querySelector(".scroller");
    if (scroller) Object.assign(scroller, { scrollTop: scrollTop || 0, scrollLeft: scrollLeft || 0 });
  }

  // Draws a panel into its body; a chart over time is kept and given new data.
  Poolscope.draw = (host, panel, context) => {
    if (panel.error || (empty(panel) && DRAW[panel.type] !== stat)) {
      host.chart?.destroy();
      host.chart = null;
      host.replaceChildren(element("p", { class: panel.error ? "failed" : "nothing" },
        panel.error || (panel.config.noValue || "no data here")));
      host.closest(".panel")?.querySelector(".readout")?.remove();
      return;
    }
    const over = { timeseries: Poolscope.timeseries, heatmap: Poolscope.heatmap,
                   xy: Poolscope.along }[panel.type];
    if (!over) return again(host, () => DRAW[panel.type](host, panel));
    if (host.chart) host.chart.update(panel, context);
    else {
      host.replaceChildren();
      host.chart = over(host, panel, context);
    }
  };

  // The frame: title, how to read it, body.
  Poolscope.frame = (panel) => {
    const body = element("div", { class: "panel-body" });
    const id = `p${Math.random().toString(36).slice(2, 9)}`;
    const head = element("header", { class: "panel-head" },
      element("h3", { id }, panel.title || "\u00a0"));
    const made = element("section", { class: `panel is-${panel.type}`, "aria-labelledby": id }, head, body);
    if (panel.text) {
      const text = element("p", { class: "about", hidden: true }, panel.text);
      const button = element("button", {
        type: "button", class: "info", "aria-expanded": "false", title: "how to read it",
        "aria-label": `how to read ${panel.title}`,
        onclick: () => {
          text.hidden = !text.hidden;
          button.setAttribute("aria-expanded", String(!text.hidden));
        },
        onkeydown: (event) => { if (event.key === "Escape" && !text.hidden) button.click(); },
      }, "i");
      head.append(button);
      made.insertBefore(text, body);
    }
    return { made, body };
  };
})();
