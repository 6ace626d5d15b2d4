// A chart over time, by uPlot: lines, areas and stacks, with one crosshair for all charts.
(() => {
  const { element, variable, palette, faded, format } = Poolscope;
  const { drawRegions, drawMarks, drawLimits, nearby, timeAxis, valueAxis, bounds } = Poolscope.axes;
  const SYNC = Poolscope.SYNC = "poolscope";
  // A click that moves a little is no selection; `zoomed` sets the scale, of all charts.
  Poolscope.DRAG = { x: true, y: false, setScale: false, dist: 8 };
  const drawn = Poolscope.charts = new Set();

  class Chart {
    constructor(host, panel, context) {
      Object.assign(this, { host, panel, context, hidden: new Set() });
      this.readout = element("span", { class: "readout", "aria-hidden": "true" });
      this.box = element("div", {
        class: "chart", tabindex: "0", role: "application",
        "aria-roledescription": "chart", "aria-label": this.label(),
        onkeydown: (event) => this.key(event),
        onblur: () => this.leave(),
      });
      this.legend = element("ul", { class: "legend", hidden: panel.options.legend === false });
      host.append(this.box, this.legend);
      const header = host.closest(".panel")?.querySelector(".panel-head");
      if (header) header.append(this.readout);
      this.prepare();
      this.build();
      this.resizing = new ResizeObserver(() => this.resize());
      this.resizing.observe(this.box);
      drawn.add(this);
    }

    label() {
      return `${this.panel.title || "chart"}, arrow keys read the values`;
    }

    get times() {
      const [start, step, points] = this.context.grid;
      return Array.from({ length: points }, (_, n) => start + n * step);
    }

    prepare() {
      const { panel } = this;
      this.series = panel.series.map((found, place) => {
        const config = Poolscope.config(panel, found);
        return { name: Poolscope.nameOf(panel, found), config, found,
                 color: Poolscope.fixedColor(config) || palette(place) };
      });
    }

    // Names, and in a stack what is drawn of each: new data alone need no new chart.
    form() {
      return JSON.stringify(this.series.map((s) => [s.name, this.stacked && [this.adds(s), busy(s)]]));
    }

    update(panel, context) {
      const [before, kept] = [this.form(), this.series];
      Object.assign(this, { panel, context });
      this.prepare();
      if (this.u && this.form() === before) {
        // The legend's buttons stay, so that the focus on one does.
        this.series.forEach((s, place) => Object.assign(s, { place, shownValue: kept[place].shownValue }));
        this.u.setData(this.data());
        this.moved(this.u);
      } else this.build();
    }

    get stacked() {
      const mode = (this.panel.config.custom || {}).stack;
      return mode === "normal" || mode === "percent";
    }

    shown() { return this.series.filter((s) => !this.hidden.has(s.name)); }

    data() {
      const points = this.context.grid[2];
      this.raw = this.series.map((s) => Poolscope.whole(s.found, points));
      if (!this.stacked) return [this.times, ...this.raw];
      // A series that is missing for a while adds nothing, so that those above it stay closed
      // areas; where all are missing there is a gap.
      const there = this.times.map((_, n) => this.raw.some((values) => values[n] !== null));
      const sum = new Array(points).fill(0);
      return [this.times, ...this.raw.map((values, place) => {
        if (!this.adds(this.series[place])) return values.map(() => null);
        return values.map((v, n) => there[n] ? (sum[n] += v ?? 0) : null);
      })];
    }

    build() {
      const { panel } = this;
      this.u?.destroy();
      const base = panel.config;
      const units = [...new Set(this.series.map((s) => s.config.unit))];
      const main = units.includes(base.unit) || !units.length ? base.unit : units[0];
      const second = units.find((unit) => unit !== main);
      const custom = base.custom || {};
      const steps = (base.thresholds || {}).steps || [];
      const limits = custom.limits && custom.limits !== "off" ? steps : [];
      const values = limits.map((s) => s.value).filter((v) => typeof v === "number");
      const other = this.series.find((s) => s.config.unit !== main);
      const axes = [timeAxis(), valueAxis("y", { ...base, unit: main }, 3)];
      if (other) axes.push(valueAxis("y2", other.config, 1));
      const bands = [];
      if (this.stacked) {
        const visible = this.series.map((s, n) => n + 1).filter((n) => this.adds(this.series[n - 1]));
        for (let n = 1; n < visible.length; n++) bands.push({ series: [visible[n], visible[n - 1]] });
      }
      this.u = new uPlot({
        ...this.size(), padding: [8, other ? 4 : 24, 0, 0], legend: { show: false },
        cursor: {
          sync: { key: SYNC, setSeries: false }, drag: Poolscope.DRAG,
          points: { size: 7, width: 1.5, fill: () => variable("card") }, y: false,
          focus: { prox: -1 },
        },
        scales: {
          x: { time: true, range: (u, low, high) => this.context.zoom || [low, high] },
          y: { range: bounds(base, values) },
          ...(other ? { y2: { range: bounds(other.config, []) } } : {}),
        },
        axes, bands,
        series: [{}, ...this.series.map((s) => this.line(s, second))],
        hooks: {
          drawClear: [(u) => drawRegions(u, this.context.marks || []),
                      (u) => drawMarks(u, this.context.marks || [])],
          draw: [(u) => drawLimits(u, limits, "y")],
          setCursor: [(u) => this.moved(u)],
          setSelect: [(u) => this.zoomed(u)],
        },
      }, this.data(), this.box);
      this.u.over.addEventListener("dblclick", () => Poolscope.zoom(this.context, null));
      this.fillLegend();
    }

    line(s, second) {
      const custom = s.config.custom;
      const area = this.stacked && busy(s);
      const alpha = area ? 0.72 : Math.min(0.35, (custom.fill ?? 8) / 100);
      return {
        label: s.name, scale: second && s.config.unit === second ? "y2" : "y",
        stroke: s.color, width: area || custom.draw === "points" || custom.width === 0 ? 0 : Math.max(1.4, custom.width || 1.4),
        fill: alpha > 0 ? faded(s.color, alpha) : undefined,
        // In a stack, a line that adds nothing would lie on top of one that does.
        show: this.stacked ? this.adds(s) : !this.hidden.has(s.name),
        spanGaps: false,
        // A value between two gaps would not be seen as a line.
        points: { show: !area, size: 4, fill: s.color, width: 0,
                  filter: (u, place, show, gaps) => lonely(u.data[place]) },
      };
    }

    // Whether a series adds to a stack; where none does, all of them are shown, at zero.
    adds(s) {
      return !this.hidden.has(s.name) && (busy(s) || !this.series.some(busy));
    }

    size() {
      return { width: Math.max(80, this.box.clientWidth), height: Math.max(60, this.box.clientHeight) };
    }

    resize() {
      const { width, height } = this.size();
      if (this.u && (Math.abs(width - this.u.width) > 1 || Math.abs(height - this.u.height) > 1)) {
        this.u.setSize({ width, height });
      }
    }

    zoomed(u) {
      if (u.select.width < Poolscope.DRAG.dist) return;
      const from = u.posToVal(u.select.left, "x");
      const to = u.posToVal(u.select.left + u.select.width, "x");
      u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
      Poolscope.zoom(this.context, [from, to]);
    }

    // --- reading values --------------------------------------------------------------------------

    fillLegend() {
      this.legend.replaceChildren(...this.series.map((s, place) => {
        const value = element("span", { class: "value" });
        const off = this.hidden.has(s.name);
        const button = element("button", {
          type: "button", "aria-pressed": String(!off), title: "show or hide this series",
          onclick: (event) => this.toggle(s.name, event),
        }, element("span", { class: "swatch" }), element("span", { class: "name" }, s.name), value);
        button.firstChild.style.background = s.color;
        s.shownValue = value;
        s.place = place;
        return element("li", off ? { class: "off" } : {}, button);
      }));
      this.values(null);
    }

    toggle(name, event) {
      const alone = event.shiftKey || event.ctrlKey || event.metaKey;
      if (alone) {
        const only = this.shown().length === 1 && this.shown()[0].name === name;
        this.hidden = new Set(only ? [] : this.series.map((s) => s.name).filter((n) => n !== name));
      } else if (!this.hidden.delete(name)) this.hidden.add(name);
      const place = this.series.findIndex((s) => s.name === name);
      this.build();
      this.legend.querySelectorAll("button")[place]?.focus();
    }

    values(index) {
      for (const s of this.series) {
        const value = index === null ? Poolscope.reduced(s.found, "lastNotNull")
          : this.raw[s.place][index];
        s.shownValue.textContent = Poolscope.show(s.config, value ?? null);
      }
    }

    moved(u) {
      const { idx, left } = u.cursor;
      const off = idx === null || idx === undefined || left < 0;
      this.values(off ? null : idx);
      if (off) this.readout.textContent = "";
      else {
        const mark = nearby(u, this.context.marks || [], left);
        this.readout.textContent = format.clock(u.data[0][idx]) + (mark ? ` · ${mark}` : "");
      }
    }

    key(event) {
      const points = this.u.data[0].length;
      const [low, high] = [this.u.scales.x.min, this.u.scales.x.max];
      const first = this.u.data[0].findIndex((t) => t >= low);
      const last = points - 1 - [...this.u.data[0]].reverse().findIndex((t) => t <= high);
      const now = this.u.cursor.left >= 0 && this.u.cursor.idx !== null ? this.u.cursor.idx : null;
      const stride = event.shiftKey ? 10 : 1;
      const next = { ArrowLeft: (now ?? last + stride) - stride, ArrowRight: (now ?? first - stride) + stride,
                     Home: first, End: last }[event.key];
      if (event.key === "Escape") {
        if (this.context.zoom) Poolscope.zoom(this.context, null);
        return this.leave();
      }
      if (next === undefined) return undefined;
      event.preventDefault();
      this.read(Math.max(first, Math.min(last, next)));
      return undefined;
    }

    read(index) {
      this.u.setCursor({ left: this.u.valToPos(this.u.data[0][index], "x"), top: 4 }, true, true);
      const values = this.shown().map((s) =>
        `${s.name} ${Poolscope.show(s.config, this.raw[s.place][index])}`);
      const mark = nearby(this.u, this.context.marks || [], this.u.cursor.left);
      Poolscope.say([format.clock(this.u.data[0][index]), mark, ...values].filter(Boolean).join(", "));
    }

    leave() {
      this.u.setCursor({ left: -10, top: -10 }, true, true);
    }

    redraw() {
      Poolscope.forgetColors();
      this.prepare();
      this.build();
    }

    destroy() {
      this.resizing.disconnect();
      this.u?.destroy();
      drawn.delete(this);
    }
  }

  const busy = (one) => one.found.values.some((v) => v);

  // The places of values that stand between two gaps.
  function lonely(values) {
    const found = [];
    for (let n = 0; n < values.length; n++) {
      if (values[n] !== null && (values[n - 1] ?? null) === null && (values[n + 1] ?? null) === null) {
        found.push(n);
      }
    }
    return found;
  }

  // The same stretch of time in every chart of a page.
  Poolscope.zoom = (context, range) => {
    context.zoom = range;
    for (const chart of drawn) {
      if (chart.context === context || chart.context.group === context.group) {
        chart.context.zoom = range;
        const all = chart.u.data[0];
        const [low, high] = range || [all[0], all[all.length - 1]];
        chart.u.setScale("x", { min: low, max: high });
      }
    }
  };

  Poolscope.Chart = Chart;
  Poolscope.timeseries = (host, panel, context) => new Chart(host, panel, context);
})();
