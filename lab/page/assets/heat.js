// Heat maps of histograms: time to the right, buckets upwards, darker where more fell.
(() => {
  const { element, variable, faded, format } = Poolscope;
  const { drawRegions, drawMarks, timeAxis, valueAxis } = Poolscope.axes;

  class Heat extends Poolscope.Chart {
    prepare() {
      const points = this.context.grid[2];
      const bucket = (s) => (s.labels.le === "+Inf" ? Infinity : Number(s.labels.le));
      const sorted = this.panel.series.filter((s) => s.labels && s.labels.le !== undefined)
        .sort((a, b) => bucket(a) - bucket(b));
      let below = new Array(points).fill(0);
      let rows = sorted.map((s) => {
        const whole = Poolscope.whole(s, points);
        const own = whole.map((v, n) => v === null ? null : Math.max(0, v - (below[n] ?? 0)));
        below = whole;
        return { le: bucket(s), own };
      });
      const busy = (row) => row.own.some((v) => v > 0);
      const first = rows.findIndex(busy);
      const last = rows.length - 1 - [...rows].reverse().findIndex(busy);
      this.below = first > 0 ? rows[first - 1].le : 0;
      rows = first < 0 ? [] : rows.slice(first, last + 1);
      this.rows = rows;
      this.most = Math.max(1e-9, ...rows.flatMap((row) => row.own.filter((v) => v !== null)));
      this.series = [];
    }

    data() {
      this.raw = [];
      return [this.times, new Array(this.context.grid[2]).fill(null)];
    }

    update(panel, context) {
      Object.assign(this, { panel, context });
      this.prepare();
      this.build();
    }

    edge(n) {
      const le = n === 0 ? this.below : this.rows[n - 1].le;
      return le === Infinity ? "∞" : format.text(le, this.panel.config.unit || "s");
    }

    build() {
      this.u?.destroy();
      const count = this.rows.length;
      const axis = valueAxis("y", {}, 3);
      axis.grid = { show: false };
      axis.splits = (u) => {
        const every = Math.max(1, Math.ceil(count / Math.max(2, u.bbox.height / devicePixelRatio / 26)));
        return Array.from({ length: count + 1 }, (_, n) => n).filter((n) => n % every === 0);
      };
      axis.values = (u, splits) => splits.map((n) => this.edge(n));
      this.u = new uPlot({
        ...this.size(), padding: [8, 24, 0, 0], legend: { show: false },
        cursor: { sync: { key: Poolscope.SYNC, setSeries: false }, drag: Poolscope.DRAG, y: false, points: { show: false } },
        scales: { x: { time: true, range: (u, low, high) => this.context.zoom || [low, high] },
                  y: { range: [0, Math.max(1, count)] } },
        axes: [{ ...timeAxis(), grid: { show: false } }, axis],
        series: [{}, { scale: "y", show: true, stroke: "transparent", points: { show: false } }],
        hooks: {
          drawClear: [(u) => drawRegions(u, this.context.marks || []), (u) => this.cells(u)],
          draw: [(u) => drawMarks(u, (this.context.marks || []).filter((m) =>
            !/window (start|end)/i.test(m.name)))],
          setCursor: [(u) => this.moved(u)],
          setSelect: [(u) => this.zoomed(u)],
        },
      }, this.data(), this.box);
      this.u.over.addEventListener("dblclick", () => Poolscope.zoom(this.context, null));
      this.u.over.addEventListener("mousemove", () => this.moved(this.u));
      this.scaleBar();
    }

    cells(u) {
      const { ctx, bbox } = u;
      const [, step] = this.context.grid;
      const times = u.data[0];
      ctx.save();
      ctx.beginPath();
      ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
      ctx.clip();
      const wide = Math.max(1, u.valToPos(times[0] + step, "x", true) - u.valToPos(times[0], "x", true));
      this.rows.forEach((row, n) => {
        const [bottom, top] = [u.valToPos(n, "y", true), u.valToPos(n + 1, "y", true)];
        row.own.forEach((value, at) => {
          if (!value) return;
          ctx.fillStyle = faded(variable("heat"), 0.07 + 0.93 * Math.sqrt(value / this.most));
          const x = u.valToPos(times[at], "x", true) - wide;
          ctx.fillRect(Math.floor(x), top + 0.5, Math.ceil(wide), bottom - top - 1);
        });
      });
      ctx.restore();
    }

    scaleBar() {
      const unit = "suffix:/s";
      this.legend.replaceChildren(element("li", { class: "heat-scale" },
        element("span", {}, "0"), element("span", { class: "ramp", "aria-hidden": "true" }),
        element("span", {}, `${format.text(this.most, unit)} at most`)));
    }

    describe(index) {
      const found = this.rows.map((row, n) => ({ n, value: row.own[index] }))
        .filter((c) => c.value > 0).sort((a, b) => b.value - a.value)[0];
      return found ? `most in ${this.edge(found.n)} to ${this.edge(found.n + 1)}: `
        + format.text(found.value, "suffix:/s") : "no observations";
    }

    moved(u) {
      const { idx, left, top } = u.cursor;
      if (idx === null || idx === undefined || left < 0) { this.readout.textContent = ""; return; }
      const inside = u.over.matches(":hover");
      const row = inside ? Math.floor(u.posToVal(top, "y")) : -1;
      const text = this.rows[row]
        ? `${this.edge(row)} to ${this.edge(row + 1)}: ${format.text(this.rows[row].own[idx] ?? 0, "suffix:/s")}`
        : this.describe(idx);
      this.readout.textContent = `${format.clock(u.data[0][idx])} · ${text}`;
    }

    read(index) {
      this.u.setCursor({ left: this.u.valToPos(this.u.data[0][index], "x"), top: 4 }, true, true);
      Poolscope.say(`${format.clock(this.u.data[0][index])}, ${this.describe(index)}`);
    }
  }

  Poolscope.heatmap = (host, panel, context) => new Heat(host, panel, context);
})();
