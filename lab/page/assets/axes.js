// What charts have in common: marks and limits behind the lines, axes, and room above the data.
(() => {
  const { variable, color, faded, format } = Poolscope;

  // --- what stands behind the lines -------------------------------------------------------------

  const ended = (mark, n) => typeof (mark.end || [])[n] === "number";

  // Stretches of time: marks with an end. Where there are none, a window opens at one mark and
  // closes at the next of its kind with the same text.
  function regions(marks) {
    const found = marks.flatMap((m) => m.at.map((at, n) => ended(m, n)
      && { from: at, to: m.end[n], text: m.text[n] || m.name, color: m.color }).filter(Boolean));
    if (found.length) return found;
    const named = (part) => marks.filter((m) => m.name.toLowerCase().includes(part));
    const ends = named("window end").flatMap((m) => m.at.map((at, n) => ({ at, text: m.text[n] })));
    return named("window start").flatMap((m) => m.at.map((at, n) => {
      const end = ends.find((e) => e.text === m.text[n] && e.at > at);
      return end && { from: at, to: end.at, text: m.text[n], color: m.color, paired: true };
    })).filter(Boolean);
  }

  function clipped(u, draw) {
    const { ctx, bbox } = u;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    draw(ctx, bbox, devicePixelRatio, (at) => u.valToPos(at, "x", true));
    ctx.restore();
  }

  function drawRegions(u, marks) {
    clipped(u, (ctx, bbox, ratio, place) => {
      ctx.font = `${10 * ratio}px ${variable("sans")}`;
      for (const region of regions(marks)) {
        const [from, to] = [place(region.from), place(region.to)];
        if (to < bbox.left || from > bbox.left + bbox.width) continue;
        ctx.fillStyle = faded(color(region.color), 0.08);
        ctx.fillRect(from, bbox.top, to - from, bbox.height);
        // Regions that follow one another at once are told apart by where they begin.
        ctx.fillStyle = faded(color(region.color), 0.3);
        if (!region.paired) ctx.fillRect(Math.round(from), bbox.top, ratio, bbox.height);
        const name = region.text.replace(/-r\d+$/, "").replace(/-/g, " ");
        const left = Math.max(from, bbox.left) + 4 * ratio;
        ctx.fillStyle = variable("faint");
        if (ctx.measureText(name).width < Math.min(to, bbox.left + bbox.width) - left - 4 * ratio) {
          ctx.fillText(name, left, bbox.top + 12 * ratio);
        }
      }
    });
  }

  function drawMarks(u, marks) {
    clipped(u, (ctx, bbox, ratio, place) => marks.forEach((mark) => {
      ctx.strokeStyle = faded(color(mark.color), 0.42);
      ctx.fillStyle = color(mark.color);
      ctx.lineWidth = ratio;
      for (const at of mark.at.filter((_, n) => !ended(mark, n))) {
        const x = Math.round(place(at)) + 0.5;
        if (x < bbox.left || x > bbox.left + bbox.width) continue;
        ctx.setLineDash([2 * ratio, 3 * ratio]);
        ctx.beginPath();
        ctx.moveTo(x, bbox.top);
        ctx.lineTo(x, bbox.top + bbox.height);
        ctx.stroke();
        ctx.setLineDash([]);
        ctx.beginPath();
        ctx.moveTo(x - 3 * ratio, bbox.top + bbox.height);
        ctx.lineTo(x + 3 * ratio, bbox.top + bbox.height);
        ctx.lineTo(x, bbox.top + bbox.height - 4 * ratio);
        ctx.fill();
      }
    }));
  }

  function drawLimits(u, steps, unitScale) {
    const { ctx, bbox } = u;
    const ratio = devicePixelRatio;
    ctx.save();
    for (const step of steps) {
      if (step.value === null || step.value === undefined) continue;
      const y = Math.round(u.valToPos(step.value, unitScale, true)) + 0.5;
      if (y < bbox.top || y > bbox.top + bbox.height) continue;
      ctx.strokeStyle = faded(color(step.color), 0.75);
      ctx.lineWidth = ratio;
      ctx.setLineDash([6 * ratio, 4 * ratio]);
      ctx.beginPath();
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(bbox.left + bbox.width, y);
      ctx.stroke();
    }
    ctx.restore();
  }

  // The region that a moment is in, and the marks near it, in words.
  function nearby(u, marks, left) {
    const now = u.posToVal(left, "x");
    const found = regions(marks).filter((r) => r.from <= now && now <= r.to).map((r) => r.text);
    for (const mark of marks) {
      mark.at.forEach((at, n) => {
        if (!ended(mark, n) && Math.abs(u.valToPos(at, "x") - left) < 5) {
          found.push(mark.text[n] ? `${mark.name}: ${mark.text[n]}` : mark.name);
        }
      });
    }
    return [...new Set(found)].slice(0, 2).join(", ");
  }

  // --- axes -------------------------------------------------------------------------------------

  function timeAxis() {
    return {
      stroke: () => variable("faint"), font: `11px ${variable("sans")}`, size: 28, gap: 7, space: 64,
      grid: { stroke: () => variable("grid"), width: 1 }, ticks: { show: false },
      values: (u, splits, axis, space, increment) =>
        splits.map((at) => format.clock(at, increment < 60)),
    };
  }

  // Ticks of per cent need as many decimals as their distance has: 12.5%, not 13%.
  function decimals(unit, increment) {
    const step = unit === "percentunit" ? increment * 100 : unit === "percent" ? increment : null;
    if (step === null) return undefined;
    return [0, 1, 2].find((n) => Math.abs(step * 10 ** n - Math.round(step * 10 ** n)) < 1e-6) ?? 3;
  }

  const POWERS = Array.from({ length: 50 }, (_, n) => 2 ** n);

  function valueAxis(scale, config, side) {
    return {
      scale, side, stroke: () => variable("faint"), font: `11px ${variable("sans")}`, gap: 6,
      space: 32, grid: { show: side === 3, stroke: () => variable("grid"), width: 1 },
      ticks: { show: false }, ...(config.unit === "bytes" ? { incrs: POWERS } : {}),
      size: (u, values) => values === null ? 44
        : 16 + Math.max(...values.map((v) => String(v).length)) * 6.2,
      values: (u, splits, axis, space, increment) =>
        splits.map((v) => format.text(v, config.unit, decimals(config.unit, increment))),
    };
  }

  // Room above the data, the panel's own bounds first, and a limit that is near. An axis reaches at
  // least its soft bounds; within them the data need no room of their own.
  function bounds(config, limits) {
    const { softMin, softMax } = config.custom || {};
    return (u, low, high) => {
      if (low === null || high === null) {
        return [config.min ?? softMin ?? 0, config.max ?? softMax ?? 1];
      }
      // All zero: a scale of 100% would say that something is nearly full.
      if (low === 0 && high === 0 && config.max === undefined && softMax === undefined) {
        return [0, config.unit === "percentunit" ? 0.05 : 1];
      }
      const near = limits.filter((v) => v > high && high >= v * 0.6);
      const top = Math.max(high, ...near);
      const span = top - Math.min(0, low) || 1;
      const bottom = config.min ?? (low < Math.min(0, softMin ?? 0) ? low - span * 0.08 : softMin ?? 0);
      const above = top <= softMax ? softMax : top <= bottom ? bottom + 1 : top + span * 0.08;
      return [Math.min(bottom, low), Math.max(config.max ?? -Infinity, above)];
    };
  }

  Poolscope.axes = { drawRegions, drawMarks, drawLimits, nearby, timeAxis, valueAxis, bounds };
})();
