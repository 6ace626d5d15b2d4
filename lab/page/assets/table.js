// Tables: cells that their panel maps, colours and links, in an order that a click changes.
(() => {
  const { element, color, variable } = Poolscope;

  function tableOf(panel) {
    if (panel.tables.length) return panel.tables[0];
    return [{ name: "series", kind: "string", values: panel.series.map((s) => Poolscope.nameOf(panel, s)) },
            { name: "value", kind: "number",
              values: panel.series.map((s) => Poolscope.reduced(s, panel.options.calc)) }];
  }

  // Columns from which on a phone shows a part only, where a line that breaks out of sight would
  // only stretch its row; and letters from which on words need some width.
  const [WIDE, LONG] = [6, 24];

  function table(host, panel) {
    const all = tableOf(panel);
    const columns = all.filter((c) => c.name !== "__name__")
      .map((c) => ({ ...c, shown: Poolscope.nameOf(panel, c), config: Poolscope.config(panel, c),
                     none: (c.config || {}).noValue || Poolscope.format.MISSING }))
      .filter((c) => !c.config.custom.hidden);
    const count = columns.length ? columns[0].values.length : 0;
    const status = columns.find((c, n) => n > 0 && c.shown.toLowerCase() === "status");
    for (const column of columns) {
      column.classes = [column.kind === "number" ? "number" : "", column === status ? "status" : "",
        column.kind === "string" && column.values.some((v) => String(v ?? "").length > LONG) ? "long" : ""];
    }
    const read = (n) => (name) => (columns.find((c) => c.shown === name)
      || all.find((c) => c.name === name) || { values: [] }).values[n];
    const cell = (column, n) => {
      const { words, tone } = told(column, column.values[n]);
      const address = Poolscope.address(column.config, column.values[n], read(n));
      const parts = column.kind === "number" ? [words] : breakable(words);
      const made = element("td", { class: [...column.classes, tone ? "toned" : ""].filter(Boolean).join(" ") || null },
        ...(address ? [element("a", { href: address, target: "_blank", rel: "noopener noreferrer" }, ...parts)]
          : parts));
      if (tone) made.style.setProperty("--tone", tone);
      if (status && column === columns[0]) made.append(badge(status, n));
      return made;
    };
    const rows = Array.from({ length: count }, (_, n) =>
      element("tr", {}, ...columns.map((column) => cell(column, n))));
    const body = element("tbody", {}, ...rows);
    const head = element("tr", {}, ...columns.map((column) => element("th", {
      scope: "col", class: column.classes.filter(Boolean).join(" ") || null }, column.shown)));
    const made = element("table", { class: columns.length >= WIDE ? "wide" : null },
                         element("caption", { class: "sr-only" }, panel.title),
                         element("thead", {}, head), body);
    host.replaceChildren(element("div", { class: "scroller", tabindex: "0", role: "region",
                                          "aria-label": panel.title }, made));
    const [first] = panel.options.sortBy || [];
    host.sorted = sortable(made, columns.map((c) => (n) => c.values[n]), host.sorted
      || (first && { column: first.displayName, up: !first.desc }));
  }

  // Names break where their parts meet.
  function breakable(words) {
    const parts = words.split(/(?<=[_/.:?&=])(?=\w)|(?<=[a-z])(?=[A-Z])/);
    return parts.flatMap((part, n) => (n ? [element("wbr"), part] : [part]));
  }

  // What a cell says, and the colour of its text.
  function told(column, value) {
    const { config, kind, none } = column;
    const mapped = Poolscope.mapped(config, value) || {};
    const step = kind === "number" ? Poolscope.threshold(config, value) : undefined;
    const quiet = !step || ["green", "transparent", "text"].includes(step.color);
    const words = mapped.text || (value === null || value === "" ? none
      : kind === "time" ? Poolscope.format.moment(value)
        : kind === "number" ? Poolscope.show(config, value) : String(value));
    const tone = mapped.color ? Poolscope.tone(mapped.color) : quiet ? null : color(step.color);
    return { words, tone };
  }

  // A narrow screen has the status in the row's first cell: a column of it would be out of sight.
  function badge(status, n) {
    const { words, tone } = told(status, status.values[n]);
    const made = element("span", { class: "badge in-first" }, words);
    made.style.color = tone || variable({ accepted: "good", rejected: "bad" }[words] || "soft");
    return made;
  }

  // Makes the heads of a table sort it; `reads` give the value of a column in the row n. Returns the
  // order that is on, { column, up }: a table that comes with new data takes that of the one before.
  function sortable(made, reads, sorted = { column: null, up: true }) {
    const body = made.tBodies[0];
    const rows = [...body.rows];
    const heads = [...made.tHead.rows[0].cells];
    const names = heads.map((head) => head.textContent);
    const sort = () => {
      const place = names.indexOf(sorted.column);
      if (place < 0) return;
      const read = reads ? reads[place] : (n) => cellValue(rows[n].cells[place]);
      const sign = sorted.up ? 1 : -1;
      heads.forEach((head, n) => {
        if (n !== place) head.removeAttribute("aria-sort");
        else head.setAttribute("aria-sort", sorted.up ? "ascending" : "descending");
      });
      const order = rows.map((row, n) => n).sort((a, b) => compare(read(a), read(b), sign));
      body.append(...order.map((n) => rows[n]));
    };
    heads.forEach((head, place) => {
      const button = element("button", { type: "button", class: "sort" }, ...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const up = sorted.column !== names[place] || !sorted.up;
        Object.assign(sorted, { column: names[place], up });
        sort();
      });
    });
    sort();
    return sorted;
  }

  const cellValue = (cell) => {
    const value = cell.dataset.value ?? cell.textContent;
    return value === "" ? null : Number.isNaN(Number(value)) ? value : Number(value);
  };

  // What is missing comes last, whichever way.
  function compare(a, b, sign) {
    const none = (v) => v === null || v === undefined || v === "";
    if (none(a) || none(b)) return none(a) ? (none(b) ? 0 : 1) : -1;
    return sign * (typeof a === "number" && typeof b === "number" ? a - b
      : String(a).localeCompare(String(b), "en", { numeric: true }));
  }

  Object.assign(Poolscope, { table, sortable });
})();
