// Elements, colours and what a field's configuration says of a value.
(() => {
  const NAMES = ["blue", "orange", "green", "purple", "red", "teal", "yellow", "pink", "slate",
                 "brown"];

  // Makes an element; text is always text, never markup.
  Poolscope.element = (tag, attributes = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value === undefined || value === null || value === false) continue;
      if (name === "class") made.className = value;
      else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else made.setAttribute(name, value === true ? "" : value);
    }
    made.append(...children.filter((c) => c !== null && c !== undefined && c !== false));
    return made;
  };

  const seen = new Map();
  Poolscope.forgetColors = () => seen.clear();

  // The value of one of the page's CSS variables, in the theme that is on.
  const variable = Poolscope.variable = (name) => {
    if (!seen.has(name)) {
      const style = getComputedStyle(document.documentElement);
      seen.set(name, style.getPropertyValue(`--${name}`).trim());
    }
    return seen.get(name);
  };

  // Grafana's colour names, in this page's palette; anything unknown is quiet grey.
  Poolscope.color = (name) => {
    if (typeof name !== "string") return variable("c-slate");
    if (/^#[0-9a-f]{3,8}$/i.test(name)) return name;
    if (name === "text") return variable("ink");
    const bare = name.replace(/^(super-light|light|semi-dark|dark)-/, "");
    return variable(NAMES.includes(bare) ? `c-${bare}` : "c-slate");
  };
  Poolscope.palette = (place) => variable(`c-${NAMES[place % NAMES.length]}`);

  Poolscope.faded = (color, alpha) => {
    let hex = color.replace("#", "");
    if (hex.length === 3) hex = [...hex].map((c) => c + c).join("");
    const [r, g, b] = [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16));
    return `rgba(${r}, ${g}, ${b}, ${alpha})`;
  };

  // The step of the thresholds that a value is in; undefined where there are no real steps.
  Poolscope.threshold = (config, value) => {
    const steps = ((config.thresholds || {}).steps || []);
    if (value === null || value === undefined || typeof value !== "number") return undefined;
    let found = steps[0];
    for (const step of steps) if (step.value === null || value >= step.value) found = step;
    return steps.length > 1 ? found : undefined;
  };

  // What a value is called, and its colour, where the panel maps it.
  Poolscope.mapped = (config, value) => {
    for (const mapping of config.mappings || []) {
      const options = mapping.options || {};
      if (mapping.type === "value" && options[String(value)]) return options[String(value)];
      if (mapping.type === "special" && options.match && value === null) return options.result;
      if (mapping.type === "range" && typeof value === "number"
          && value >= (options.from ?? -Infinity) && value <= (options.to ?? Infinity)) {
        return options.result;
      }
    }
    return undefined;
  };

  // A chosen colour as one that text can have.
  const WORDS = { green: "good", red: "bad", orange: "warn", yellow: "warn" };
  Poolscope.tone = (name) => {
    const bare = String(name).replace(/^(super-light|light|semi-dark|dark)-/, "");
    return WORDS[bare] ? variable(WORDS[bare]) : Poolscope.color(name);
  };

  // The address that a value leads to; one that would only hold inside Grafana leads nowhere.
  Poolscope.address = (config, value, read) => {
    const [link] = config.links || [];
    if (!link) return null;
    const found = String(link.url)
      .replace(/\$\{__data\.fields(?:\.([^}[]+)|\[["']?([^\]"']+)["']?\])\}/g, (all, a, b) => read(a ?? b) ?? "")
      .replace(/\$\{__value\.(?:raw|text)\}/g, () => value ?? "");
    return /^https?:\/\//i.test(found) ? found : null;
  };

  Poolscope.show = (config, value) => {
    const mapped = Poolscope.mapped(config, value);
    if (mapped && mapped.text) return mapped.text;
    if (value === null && config.noValue) return config.noValue;
    return Poolscope.format.text(value, config.unit, config.decimals);
  };

  // A panel's defaults under what holds for one of its fields.
  Poolscope.config = (panel, field) => ({ ...panel.config, ...(field.config || {}),
    custom: { ...(panel.config.custom || {}), ...((field.config || {}).custom || {}) } });

  Poolscope.nameOf = (panel, field) => Poolscope.config(panel, field).displayName || field.name;

  // A series is kept without what is missing at its ends.
  Poolscope.whole = (series, points) => {
    const values = new Array(points).fill(null);
    series.values.forEach((value, n) => { values[series.at + n] = value; });
    return values;
  };

  Poolscope.reduced = (series, calc) => {
    const there = series.values.filter((value) => value !== null);
    if (!there.length) return null;
    if (calc === "mean") return there.reduce((a, b) => a + b, 0) / there.length;
    if (calc === "max") return Math.max(...there);
    return there[there.length - 1];
  };

  Poolscope.fixedColor = (config) => {
    const color = config.color || {};
    return color.mode === "fixed" && color.fixedColor ? Poolscope.color(color.fixedColor) : null;
  };

  Poolscope.say = (text) => {
    const region = document.getElementById("said");
    if (region) region.textContent = text;
  };
})();
