// Lines over any axis of numbers, such as users.
(() => {
  const { variable, format } = Poolscope;
  const { timeAxis, valueAxis, bounds } = Poolscope.axes;

  class Along extends Poolscope.Chart {
    get times() { return this.panel.x; }

    data() {
      this.raw = this.series.map((s) => Poolscope.whole(s.found, this.panel.x.length));
      return [this.panel.x, ...this.raw];
    }

    build() {
      this.u?.destroy();
      const { panel } = this;
      const xs = panel.x;
      const wide = xs[0] > 0 && xs[xs.length - 1] / xs[0] >= 20;
      const number = (v) => format.text(v, "none");
      this.u = new uPlot({
        ...this.size(), padding: [8, 16, 0, 0], legend: { show: false },
        cursor: { y: false, drag: { x: false, y: false },
                  points: { size: 8, width: 1.5, fill: () => variable("card") } },
        scales: { x: { time: false, distr: wide ? 3 : 1,
                       range: (u, low, high) => wide ? [low / 1.15, high * 1.15]
                         : [low - (high - low) * 0.03, high + (high - low) * 0.03] },
                  y: { range: bounds(panel.config, []) } },
        axes: [{ ...timeAxis(), size: 40, label: panel.xName, labelSize: 14, labelGap: 0,
                 labelFont: `11px ${variable("sans")}`, splits: () => xs,
                 filter: (u, splits) => splits,
                 values: (u, splits) => splits.map(number) },
               valueAxis("y", panel.config, 3)],
        series: [{}, ...this.series.map((s) => ({
          label: s.name, stroke: s.color, width: 1.6, show: !this.hidden.has(s.name), spanGaps: true,
          points: { show: true, size: 6, fill: s.color, width: 0 } }))],
        hooks: { setCursor: [(u) => this.moved(u)] },
      }, this.data(), this.box);
      this.fillLegend();
    }

    values(index) {
      for (const s of this.series) {
        s.shownValue.textContent = index === null ? ""
          : Poolscope.show(s.config, this.raw[s.place][index] ?? null);
      }
    }

    moved(u) {
      const off = u.cursor.idx === null || u.cursor.idx === undefined || u.cursor.left < 0;
      this.values(off ? null : u.cursor.idx);
      this.readout.textContent = off ? "" : `${this.panel.xName} ${this.panel.x[u.cursor.idx]}`;
    }

    read(index) {
      this.u.setCursor({ left: this.u.valToPos(this.panel.x[index], "x"), top: 4 }, true, true);
      const values = this.shown().map((s) => `${s.name} ${Poolscope.show(s.config, this.raw[s.place][index])}`);
      Poolscope.say([`${this.panel.xName} ${this.panel.x[index]}`, ...values].join(", "));
    }
  }

  Poolscope.along = (host, panel, context) => new Along(host, panel, context);
})();
