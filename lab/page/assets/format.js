// Values as people read them; units carry Grafana's names, so that a panel reads the same there.
"use strict";
const Poolscope = {};

Poolscope.format = (() => {
  const MISSING = "–";
  const SI = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];
  const IEC = [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]];
  const BYTES = [[1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1e3, "kB"]];
  const TIMES = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"], [1e-3, "ms"], [1e-6, "µs"]];
  const RATES = { reqps: "req/s", ops: "ops/s", rps: "rd/s", wps: "wr/s", iops: "io/s",
                  cps: "c/s", rowsps: "rows/s", pps: "p/s", tps: "tx/s" };

  // Three to four digits; never an exponent, never a trailing zero that says nothing.
  function digits(value, decimals) {
    const size = Math.abs(value);
    if (decimals === undefined || decimals === null) {
      if (size === 0) return "0";
      decimals = size >= 99.95 ? 0 : size >= 9.995 ? 1 : size >= 0.0995 ? 2 : 3;
      const text = group(value.toFixed(decimals));
      const bare = text.includes(".") ? text.replace(/\.?0+$/, "") : text;
      return bare === "0" || bare === "-0" ? value.toPrecision(1) : bare;
    }
    return group(value.toFixed(decimals));
  }

  function group(text) {
    const [whole, rest] = text.split(".");
    const spaced = whole.replace(/\B(?=(\d{3})+$)/g, ",");
    return rest === undefined ? spaced : `${spaced}.${rest}`;
  }

  function scaled(value, steps, smallest, decimals, space = " ") {
    for (const [size, name] of steps) {
      // 999.95 k would be written 1,000 k: it belongs to the next step already.
      if (Math.abs(value) >= size * 0.99995) return [digits(value / size, decimals), name, space];
    }
    return [digits(value, decimals), smallest, space];
  }

  function seconds(value, decimals) {
    if (value === 0) return ["0", "s", " "];
    const size = Math.abs(value);
    const [step, name] = TIMES.find(([s]) => size >= s * 0.9995) || [1e-9, "ns"];
    return [digits(value / step, decimals), name, " "];
  }

  // A value in parts: its digits, its unit, and what stands between them.
  function parts(value, unit, decimals) {
    if (value === null || value === undefined || Number.isNaN(value)) return [MISSING, "", ""];
    if (typeof value === "string") return [value, "", ""];
    switch (unit) {
      case "s": return seconds(value, decimals);
      case "ms": return seconds(value / 1e3, decimals);
      case "µs": return seconds(value / 1e6, decimals);
      case "ns": return seconds(value / 1e9, decimals);
      case "percentunit": return percent(value * 100, decimals);
      case "percent": return percent(value, decimals);
      case "bytes": return scaled(value, IEC, "B", decimals);
      case "decbytes": return scaled(value, BYTES, "B", decimals);
      case "Bps": case "binBps": {
        const [text, name, space] = scaled(value, unit === "Bps" ? BYTES : IEC, "B", decimals);
        return [text, `${name}/s`, space];
      }
      case "dateTimeAsIso": case "dateTimeFromNow": return [moment(value / 1e3), "", ""];
      case "string": return [String(value), "", ""];
      case "none": case "locale": return [digits(value, decimals), "", ""];
      case undefined: case "": case "short": return small(value, "", decimals);
    }
    if (RATES[unit]) return small(value, RATES[unit], decimals);
    if (unit.startsWith("suffix:")) return small(value, unit.slice(7), decimals);
    if (unit.startsWith("prefix:")) {
      const [text, name] = small(value, "", decimals);
      return [unit.slice(7) + text, name, ""];
    }
    return small(value, unit, decimals);
  }

  function percent(value, decimals) {
    if (decimals !== undefined && decimals !== null) return [digits(value, decimals), "%", ""];
    const size = Math.abs(value);
    if (size === 0) return ["0", "%", ""];
    if (size < 0.01) return ["<0.01", "%", ""];
    const text = value.toFixed(size < 0.995 ? 2 : size < 9.95 ? 1 : 0);
    return [text.includes(".") ? text.replace(/\.?0+$/, "") : text, "%", ""];
  }

  function small(value, name, decimals) {
    const size = Math.abs(value);
    if (size < 9999.5) return [digits(value, decimals), name, /^[/%]/.test(name) ? "" : " "];
    const [text, step] = scaled(value, SI, "", decimals);
    return [text, step + (name ? (/^[/%]/.test(name) ? name : ` ${name}`) : ""), " "];
  }

  function text(value, unit, decimals) {
    const [digitsOf, name, space] = parts(value, unit, decimals);
    return name ? digitsOf + space + name : digitsOf;
  }

  let local = false;
  const two = (n) => String(n).padStart(2, "0");
  const at = (unix) => {
    const date = new Date(unix * 1e3);
    return local
      ? [date.getFullYear(), date.getMonth() + 1, date.getDate(),
         date.getHours(), date.getMinutes(), date.getSeconds()]
      : [date.getUTCFullYear(), date.getUTCMonth() + 1, date.getUTCDate(),
         date.getUTCHours(), date.getUTCMinutes(), date.getUTCSeconds()];
  };

  function clock(unix, withSeconds = true) {
    const [, , , hour, minute, second] = at(unix);
    return `${two(hour)}:${two(minute)}${withSeconds ? `:${two(second)}` : ""}`;
  }

  function moment(unix) {
    const [year, month, day] = at(unix);
    return `${year}-${two(month)}-${two(day)} ${clock(unix)}`;
  }

  return { MISSING, parts, text, clock, moment, setLocal: (value) => { local = value; } };
})();
