// A text panel's Markdown: paragraphs, headings, lists, code, bold and links; anything else stays as
// it is written.
(() => {
  const { element } = Poolscope;
  const HEAD = /^#+ (.*)$/;
  const ITEM = /^\s*(?:[-*]|(\d+)\.) (.*)$/;
  const INLINE = /(\*\*[^*]+\*\*|`[^`]+`|\[[^\]]+\]\([^)\s]+\))/;

  // The blocks of a text: { kind, lines } and, of a numbered list, the number it starts from.
  function blocks(text) {
    const found = [];
    let open = null; // the block that the next line goes on with
    const begin = (kind, ...lines) => {
      open = { kind, lines };
      found.push(open);
      return open;
    };
    for (const line of text.split("\n")) {
      const item = ITEM.exec(line);
      const last = found[found.length - 1];
      if (open?.fenced) {
        if (/^\s*```/.test(line)) open = null;
        else open.lines.push(line);
      } else if (/^\s*```/.test(line)) begin("code").fenced = true;
      else if (!line.trim()) open = null;
      else if (HEAD.test(line)) { begin("head", HEAD.exec(line)[1]); open = null; }
      else if (item) {
        const kind = item[1] ? "ol" : "ul";
        if (last?.kind === kind && (open === last || open === null)) last.lines.push(item[2]);
        else begin(kind, item[2]).start = item[1];
        open = found[found.length - 1];
      } else if (open?.kind === "ol" || open?.kind === "ul") {
        open.lines.push(`${open.lines.pop()} ${line.trim()}`);
      } else if (open) open.lines.push(line);
      else begin(/^ {4}/.test(line) ? "code" : "p", line);
    }
    return found;
  }

  function inline(line) {
    return line.split(INLINE).map((part) => {
      if (part.startsWith("**")) return element("strong", {}, part.slice(2, -2));
      if (part.startsWith("`") && part.length > 1) return element("code", {}, part.slice(1, -1));
      const link = /^\[([^\]]+)\]\(([^)\s]+)\)$/.exec(part);
      if (!link) return part;
      return /^https?:\/\//i.test(link[2])
        ? element("a", { href: link[2], target: "_blank", rel: "noopener noreferrer" }, link[1]) : link[1];
    });
  }

  // Code stands as it was indented, without what all of its lines have in common.
  function code(lines) {
    const indents = lines.filter((l) => l.trim()).map((l) => l.length - l.trimStart().length);
    const common = Math.min(...indents, 80);
    return element("pre", { tabindex: "0", "aria-label": "command or query" },
                   element("code", {}, lines.map((l) => l.slice(common)).join("\n")));
  }

  Poolscope.prose = (text) => blocks(text).map(({ kind, lines, start }) => {
    if (kind === "code") return code(lines);
    if (kind === "head") return element("h4", {}, ...inline(lines[0]));
    if (kind === "p") return element("p", {}, ...inline(lines.map((l) => l.trim()).join(" ")));
    return element(kind, { start }, ...lines.map((line) => element("li", {}, ...inline(line))));
  });
})();
