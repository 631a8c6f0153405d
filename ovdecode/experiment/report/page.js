"use strict";
// What a model wrote is shown with textContent alone, so that none of it is ever taken for markup.
{
  const byId = (id) => document.getElementById(id);
  const read = (id) => JSON.parse(byId(id).textContent);
  const element = (tag, className = "", ...children) => {
    const made = document.createElement(tag);
    if (className) made.className = className;
    made.append(...children);
    return made;
  };
  const button = (label, title, action) => {
    const made = element("button", "", label);
    made.title = title;
    made.onclick = action;
    return made;
  };
  const number = (value) => (value == null ? "–" : String(Number(value.toPrecision(4))));
  const percent = (value) => (value >= 0.9995 ? "100 %" : value < 0.0001 ? value.toExponential(1) : (100 * value).toPrecision(3) + " %");
  const visible = (look) => look.replaceAll(" ", "␣").replaceAll("\n", "↵").replaceAll("\t", "⇥") || "(part of a character)";

  const overview = read("overview-data");
  const { rows, metrics, costs, prompts } = overview;

  // ---- the table ----
  const table = byId("summary");
  table.tHead.addEventListener("click", (event) => {
    const head = event.target.closest("th");
    if (!head) return;
    const column = head.cellIndex;
    const up = head.dataset.sorted !== "up";
    for (const other of table.tHead.rows[0].cells) delete other.dataset.sorted;
    head.dataset.sorted = up ? "up" : "down";
    const key = (row) => (column ? parseFloat(row.cells[column].dataset.value) : row.cells[0].textContent);
    const order = (a, b) => {
      if (a !== a || b !== b) return (a !== a) - (b !== b); // no value comes last, either way
      return (a < b ? -1 : a > b ? 1 : 0) * (up ? 1 : -1);
    };
    const sorted = [...table.tBodies[0].rows].sort((a, b) => order(key(a), key(b)));
    table.tBodies[0].append(...sorted);
  });

  // ---- the texts: parsed once the page is up ----
  let parsed = null;
  const data = () => {
    if (parsed) return parsed;
    parsed = read("texts-data");
    parsed.markup = new Set(parsed.special);
    parsed.byPrompt = new Map();
    for (const text of parsed.texts) {
      const cells = parsed.byPrompt.get(text.prompt) ?? parsed.byPrompt.set(text.prompt, []).get(text.prompt);
      (cells[text.row] ??= []).push(text);
    }
    return parsed;
  };
  const places = (text) => (text.looks ? text.looks.split(" ").map(Number) : []);
  const plain = (text) =>
    text.text ?? (text.plain ??= places(text).filter((place) => !data().markup.has(place)).map((place) => data().pieces[place]).join(""));

  // ---- the charts ----
  const dark = () => {
    const chosen = document.documentElement.style.colorScheme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  };
  const way = new Map(metrics.map((metric, index) => [index, metric.higher_is_better]));
  const draw = (name, spec, values, renderer = "svg") => {
    const style = getComputedStyle(document.body);
    const ink = style.color;
    const line = dark() ? "#3a4047" : "#dfe3e6";
    const axis = { labelColor: ink, titleColor: ink, gridColor: line, domainColor: line, tickColor: line, labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", titlePadding: 8, labelOverlap: true };
    const font = "system-ui, sans-serif";
    const config = { background: "transparent", axis, view: { stroke: line }, text: { color: ink }, rule: { color: ink }, font };
    const actions = { export: true, source: false, compiled: false, editor: false };
    // The expressions are interpreted: the page forbids code that is made from strings.
    vegaEmbed(byId(name), { ...spec, datasets: values }, { config, actions, renderer, ast: true });
  };
  const titled = (name, titles) => {
    let text = JSON.stringify(overview.charts[name]);
    for (const [mark, title] of Object.entries(titles)) text = text.replaceAll(JSON.stringify(mark), JSON.stringify(title));
    return JSON.parse(text);
  };
  const titleOf = (metric) => metric.name + (metric.unit ? ` (${metric.unit})` : "");
  const chosen = (id) => Number(byId(id).value);
  const interval = (cell, axis) => ({ [axis]: cell.mean, [axis + "low"]: cell.low ?? cell.mean, [axis + "high"]: cell.high ?? cell.mean });
  const front = (points, x, y) => {
    if (way.get(x) == null || way.get(y) == null) return points;
    const sign = { x: way.get(x) ? 1 : -1, y: way.get(y) ? 1 : -1 };
    const worse = (a, b, axis) => sign[axis] * a[axis] < sign[axis] * b[axis];
    for (const point of points) {
      point.front = !points.some((other) => (worse(point, other, "x") && !worse(other, point, "y")) || (worse(point, other, "y") && !worse(other, point, "x")));
    }
    return points;
  };
  // A label that would cover another, or another's point, moves; those far to the right stand on the left of their points.
  const [tall, lineHeight, letterWidth] = [380, 13, 6.6];
  const extent = (points, axis) => {
    const ends = points.flatMap((point) => [point[axis + "low"], point[axis + "high"], point[axis]]);
    const [least, most] = [Math.min(...ends), Math.max(...ends)];
    const room = 0.06 * (most - least) || 0.5;
    return [least - room, most + room];
  };
  const label = (points, wide, [left, right], [low, high]) => {
    const across = (x) => ((x - left) * wide) / (right - left);
    const down = (y) => ((high - y) * tall) / (high - low);
    const placed = points.map((point) => ({ point, begin: across(point.x) - 6, end: across(point.x) + 6, top: down(point.y) }));
    const together = new Map();
    for (const point of points) {
      const same = together.get(point.x + " " + point.y);
      if (same) same.text += ", " + point.method;
      else together.set(point.x + " " + point.y, Object.assign(point, { text: point.method }));
    }
    for (const point of together.values()) {
      point.side = across(point.x) > 0.6 * wide ? "right" : "left";
      const width = letterWidth * Math.min(point.text.length, 48);
      const begin = point.side === "left" ? across(point.x) + 9 : across(point.x) - 9 - width;
      const clear = (top) =>
        top >= 0 && top <= tall && !placed.some((other) => other.point !== point && begin < other.end && other.begin < begin + width && Math.abs(top - other.top) < lineHeight);
      const tops = Array.from({ length: 2 * points.length + 2 }, (_, step) => down(point.y) - 9 + (step % 2 ? 1 : -1) * Math.ceil(step / 2) * lineHeight);
      const top = tops.find(clear) ?? tops[0];
      placed.push({ begin, end: begin + width, top });
      point.label = high - (top * (high - low)) / tall;
    }
    return points.map((point) => ({ text: "", label: point.y, side: "left", ...point }));
  };
  const tradeoff = () => {
    const [x, y] = [chosen("tradeoff-x"), chosen("tradeoff-y")];
    const points = rows
      .filter((row) => row.cells[x].mean != null && row.cells[y].mean != null)
      .map((row) => ({ method: row.label, front: false, ...interval(row.cells[x], "x"), ...interval(row.cells[y], "y") }));
    const [[left, right], [low, high]] = [extent(points, "x"), extent(points, "y")];
    const labelled = label(front(points, x, y), byId("tradeoff").clientWidth - 110, [left, right], [low, high]);
    const reach = { "@left": left, "@right": right, "@low": low, "@high": high };
    const spec = titled("tradeoff", { "@x": titleOf(metrics[x]), "@y": titleOf(metrics[y]), ...reach });
    if (!labelled.some((point) => point.front)) spec.layer.shift();
    draw("tradeoff", spec, { rows: labelled });
    for (const axis of ["x", "y"]) {
      const better = way.get(chosen("tradeoff-" + axis));
      byId(`tradeoff-${axis}-way`).textContent = better == null ? "no better way" : better ? "more is better" : "less is better";
    }
    byId("tradeoff-front").textContent =
      way.get(x) == null || way.get(y) == null
        ? "For the Pareto front, say which way is better: click on “no better way”."
        : "The dashed line is the Pareto front: no method is better in one without being worse in the other.";
  };
  const distribution = () => {
    const metric = chosen("distribution-x");
    const values = [];
    for (const text of data().texts) {
      const x = text.values?.[metric];
      if (x != null) values.push({ method: rows[text.row].label, x, jitter: (values.length * 0.618) % 1 });
    }
    let [least, most] = [Infinity, 0];
    for (const { x } of values) [least, most] = [Math.min(least, x), Math.max(most, x)];
    const wide = least > 0 && most > 50 * least; // then a linear scale would show one text and a heap of others
    const title = titleOf(metrics[metric]) + (wide ? ", logarithmic" : "");
    draw("distribution", titled(wide ? "distribution_log" : "distribution", { "@x": title }), { texts: values }, "canvas");
  };
  const cost = () => {
    const column = chosen("cost-x");
    const values = rows.filter((row) => row.costs[column].mean != null).map((row) => ({ method: row.label, ...interval(row.costs[column], "x") }));
    draw("cost", titled("cost", { "@x": titleOf(costs[column]) }), { rows: values });
  };
  const choices = (id, options, first, redraw) => {
    const select = byId(id);
    options.forEach((option, index) => option && select.append(new Option(titleOf(option), index)));
    select.value = select.querySelector(`option[value="${first}"]`) ? first : select.options[0]?.value;
    select.onchange = redraw;
  };
  const shown = [];
  const prepareCharts = () => {
    if (metrics.length) {
      // Up goes quality, across diversity, as far as there are both; those of which it is known what is better first.
      const known = [...metrics.keys()].sort((a, b) => (way.get(a) == null) - (way.get(b) == null));
      const up = known.find((index) => !metrics[index].of_diversity) ?? known[0];
      const others = known.filter((index) => index !== up);
      const across = others.find((index) => metrics[index].of_diversity) ?? others[0] ?? up;
      choices("tradeoff-x", metrics, across, tradeoff);
      choices("tradeoff-y", metrics, up, tradeoff);
      for (const axis of ["x", "y"]) {
        byId(`tradeoff-${axis}-way`).title = "which way is better; click to change";
        byId(`tradeoff-${axis}-way`).onclick = () => {
          const metric = chosen("tradeoff-" + axis);
          const next = new Map([[null, true], [true, false], [false, null]]);
          way.set(metric, next.get(way.get(metric) ?? null));
          tradeoff();
        };
      }
      shown.push(tradeoff);
    } else if (byId("tradeoff")) byId("tradeoff").closest("section").remove();
    const each = metrics.map((metric, index) => data().texts.some((text) => text.values?.[index] != null) && metric);
    if (each.some(Boolean)) {
      choices("distribution-x", each, 0, distribution);
      shown.push(distribution);
    } else byId("distribution")?.parentElement.remove();
    if (costs.length) {
      choices("cost-x", costs, 0, cost);
      shown.push(cost);
    } else byId("cost")?.parentElement.remove();
    for (const chart of shown) chart();
  };
  const redraw = () => shown.forEach((chart) => chart());
  byId("theme").onclick = () => {
    document.documentElement.style.colorScheme = dark() ? "light" : "dark";
    redraw();
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

  // ---- tokens ----
  const borders = [0.9, 0.5, 0.2, 0.05, 0.005]; // from one class of colour to the next
  const shadeOf = (probability) => borders.filter((border) => probability < border).length;
  [...borders, 0].forEach((border, index) =>
    byId("scale").append(element("span", "q" + index, border ? `≥ ${100 * border} %` : `< ${100 * borders.at(-1)} %`)),
  );
  const probabilityOf = (surprise) => (surprise === undefined || surprise === "x" ? null : Math.exp(-surprise / 1000));
  const tokens = (text) => {
    if (text.text !== undefined) return text.text;
    const surprises = text.surprises.split(" ");
    const fragment = document.createDocumentFragment();
    places(text).forEach((place, index) => {
      const probability = probabilityOf(surprises[index]);
      const shade = probability == null ? "qx" : "q" + shadeOf(probability);
      const [, space, rest] = /^( *)([^]*)$/.exec(data().pieces[place]);
      const token = element("span", "t " + shade + (data().markup.has(place) ? " s" : ""), rest || space);
      token.dataset.at = index;
      fragment.append(rest ? space : "", token);
    });
    return fragment;
  };
  const texts = new WeakMap(); // from the element to the text in it
  const tip = byId("tip");
  let pinned = null;
  const describe = (token) => {
    const text = texts.get(token.parentElement);
    const at = Number(token.dataset.at);
    const probability = probabilityOf(text.surprises.split(" ")[at]);
    const known = probability == null ? "probability not known" : `${percent(probability)}, ${number(-Math.log(probability) || 0)} nats`;
    tip.replaceChildren(element("code", "", visible(data().pieces[places(text)[at]])), ` ${known}; token ${at + 1}`);
    if (!text.trace) return;
    const [alternatives, removed] = text.trace.positions[at];
    const stages = text.trace.stages;
    const list = element("table");
    for (const [place, before, after, by, isChosen] of alternatives) {
      const bar = element("span", "bar");
      bar.style.width = 5 * before + "rem";
      const fate = by >= 0 ? "removed by " + stages[by] : stages.length ? "→ " + percent(after) : "";
      const line = element("tr", (by >= 0 ? "gone" : "") + (isChosen ? " chosen" : ""));
      for (const content of [visible(data().pieces[place]), percent(before), bar, fate]) line.append(element("td", "", content));
      list.append(line);
    }
    tip.append(list);
    removed.forEach(([count, mass], index) => {
      if (count) tip.append(element("div", "note", element("code", "", stages[index]), ` removed ${count} tokens with ${percent(mass)}`));
    });
  };
  const point = (token) => {
    document.querySelector(".t.open")?.classList.remove("open");
    tip.hidden = !token;
    if (!token) return;
    describe(token);
    if (pinned) token.classList.add("open");
    const box = token.getClientRects()[0] ?? token.getBoundingClientRect();
    tip.style.left = Math.max(4, Math.min(box.left, innerWidth - tip.offsetWidth - 12)) + "px";
    const below = box.bottom + 6;
    tip.style.top = (below + tip.offsetHeight > innerHeight ? Math.max(4, box.top - tip.offsetHeight - 6) : below) + "px";
  };
  const list = byId("prompts");
  list.addEventListener("pointerover", (event) => pinned || point(event.target.closest(".t")));
  list.addEventListener("pointerleave", () => pinned || point(null));
  addEventListener("click", (event) => {
    if (tip.contains(event.target)) return;
    pinned = event.target.closest?.(".t") ?? null;
    point(pinned);
  });
  addEventListener("scroll", () => tip.hidden || point(pinned), { passive: true });
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") point((pinned = null));
    const next = { ArrowRight: pinned?.nextElementSibling, ArrowLeft: pinned?.previousElementSibling }[event.key];
    if (!next) return;
    event.preventDefault();
    next.scrollIntoView({ block: "nearest", inline: "nearest" });
    point((pinned = next));
  });

  // ---- trees ----
  const svg = (tag, attributes, ...children) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  };
  // The answer is a straight line at the top; what else was looked at hangs below it, in as few rows as it takes.
  const drawTree = (text) => {
    const [letter, line, gap] = [7.3, 20, 26];
    const nodes = text.tree.map(([parent, looks, rank]) => {
      const label = looks.split(" ").map((place) => data().pieces[place]).join("").replaceAll("\n", "↵");
      return { parent, rank, label: [...label].length > 60 ? [...label].slice(0, 59).join("") + "…" : label, kept: rank === 0, children: [] };
    });
    for (const node of [...nodes].reverse()) if (node.kept && node.parent >= 0) nodes[node.parent].kept = true;
    for (const node of nodes) {
      node.x = node.parent < 0 ? 4 : nodes[node.parent].end + gap;
      node.end = node.x + letter * ([...node.label].length + (node.rank < 0 ? 0 : 4));
      if (node.parent >= 0) nodes[node.parent].children[node.kept ? "unshift" : "push"](node);
    }
    const [labels, edges] = [[], []]; // by row: from where to where; edges may lie on each other, labels on nothing
    const free = (rows, row, from, to) => !(rows[row] ?? []).some(([begin, end]) => from < end && begin < to);
    const placeAll = (head, above) => {
      const chain = [head];
      while (chain.at(-1).children.length) chain.push(chain.at(-1).children[0]);
      const [from, to] = [head.x, chain.at(-1).end + 8];
      const between = (row) => Array.from({ length: row - above - 1 }, (_, each) => above + 1 + each);
      const clear = (row) => free(labels, row, from, to) && free(edges, row, from, to) && between(row).every((each) => free(labels, each, from - gap, from));
      let row = above + 1;
      while (!clear(row)) row += 1;
      (labels[row] ??= []).push([from, to]);
      for (const each of between(row)) (edges[each] ??= []).push([from - gap, from]);
      for (const node of chain) node.row = row;
      for (const node of chain.reverse()) for (const other of node.children.slice(1)) placeAll(other, row);
    };
    nodes.filter((node) => node.parent < 0).sort((a, b) => b.kept - a.kept).forEach((root) => placeAll(root, -1));
    const map = svg("svg", { width: Math.max(...nodes.map((node) => node.end)) + 20, height: line * (labels.length + 1) });
    const middle = (node) => line * (node.row + 1) - 4;
    for (const node of nodes) {
      const kept = node.kept ? { class: "kept" } : {};
      if (node.parent >= 0) {
        const from = nodes[node.parent];
        const [x, y, turn] = [from.end + 2, middle(from), from.end + gap / 2];
        map.append(svg("path", { ...kept, d: `M${x} ${y}C${turn} ${y} ${turn - 6} ${middle(node)} ${node.x - 3} ${middle(node)}` }));
      }
      const label = svg("text", { ...kept, x: node.x, y: middle(node) + 4 }, node.label);
      if (node.rank >= 0) label.append(svg("tspan", { class: "rank" }, ` #${node.rank + 1}`));
      map.append(label);
    }
    const dialog = byId("tree");
    const close = button("close", "Escape", () => dialog.close());
    const what = text.explored ? "Everything that the method asked the model about" : "The sequences that the method returned";
    dialog.replaceChildren(close, element("h2", "", rows[text.row].label), element("p", "note", what + "; #1 is its answer."), element("div", "map", map));
    dialog.showModal();
  };

  // ---- texts side by side ----
  const hidden = new Set();
  rows.forEach((row, index) => {
    const box = element("input");
    box.type = "checkbox";
    box.checked = true;
    box.onchange = () => {
      hidden[box.checked ? "delete" : "add"](index);
      show();
    };
    byId("methods").append(element("label", "", box, " " + row.label));
  });
  const fill = (cell, row, samples, sample) => {
    const text = samples[sample];
    const dot = element("i", "dot");
    dot.style.background = rows[row].color;
    const figures = element("div", "figures");
    if (samples.length > 1) {
      const step = (by) => () => fill(cell, row, samples, (sample + by + samples.length) % samples.length);
      figures.append(element("span", "", button("‹", "previous sample", step(-1)), ` sample ${sample + 1} of ${samples.length} `, button("›", "next sample", step(1))));
    }
    figures.append(...text.figures.map((figure) => element("span", "", figure)));
    metrics.forEach((metric, index) => text.values?.[index] != null && figures.append(element("span", "", `${metric.name} ${number(text.values[index])}`)));
    if (text.tree) figures.append(button("tree", "what else was looked at", () => drawTree(text)));
    if (text.trace_error) figures.append(element("span", "bad", "no trace: " + text.trace_error));
    const body = element("div", "text", tokens(text));
    if (text.error) body.append(element("div", "bad", text.error));
    texts.set(body, text);
    const name = rows[row].label.replace(/[,:|=(]/g, "$&\u200b"); // where a long one may break
    cell.replaceChildren(element("h3", "", dot, name), figures, body);
    mark(body, text);
  };
  const fillPrompt = (panel) => {
    const prompt = Number(panel.dataset.prompt);
    const known = prompts[prompt];
    const head = element("div", "head", element("small", "", `prompt ${prompt + 1} `), known?.text ?? "");
    for (const reference of known?.references ?? []) head.append("\n", element("small", "", "reference "), reference);
    const columns = element("div", "columns");
    data().byPrompt.get(prompt).forEach((samples, row) => {
      if (hidden.has(row)) return;
      const cell = columns.appendChild(element("div", "cell"));
      fill(cell, row, samples, Math.max(0, samples.findIndex((text) => query && lower(text).includes(query))));
    });
    panel.replaceChildren(head, columns);
  };
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      seen.unobserve(entry.target);
      fillPrompt(entry.target);
    }
  }, { rootMargin: "600px" });

  // ---- search and pages ----
  const perPage = 20;
  let query = "";
  let page = 0;
  let matching = [];
  const lower = (text) => (text.lower ??= plain(text).toLowerCase());
  const highlights = globalThis.Highlight && CSS.highlights;
  const mark = (body, text) => {
    if (!highlights || !query) return;
    const nodes = [];
    const walker = document.createTreeWalker(body, NodeFilter.SHOW_TEXT);
    let whole = "";
    while (walker.nextNode()) {
      nodes.push([whole.length, walker.currentNode]);
      whole += walker.currentNode.data.toLowerCase();
    }
    const at = (offset) => nodes.findLast(([start]) => start <= offset);
    for (let from = whole.indexOf(query); from >= 0; from = whole.indexOf(query, from + query.length)) {
      const [[first, begin], [last, end]] = [at(from), at(from + query.length - 1)];
      const range = new Range();
      range.setStart(begin, Math.min(from - first, begin.length));
      range.setEnd(end, Math.min(from + query.length - last, end.length));
      highlights.get("hits").add(range);
    }
  };
  const show = () => {
    point((pinned = null));
    if (highlights) highlights.set("hits", new Highlight());
    seen.disconnect();
    const pages = Math.max(1, Math.ceil(matching.length / perPage));
    page = Math.min(Math.max(page, 0), pages - 1);
    byId("page").textContent = `page ${page + 1} of ${pages}`;
    byId("previous").disabled = page === 0;
    byId("next").disabled = page === pages - 1;
    list.replaceChildren(
      ...matching.slice(page * perPage, (page + 1) * perPage).map((prompt) => {
        const panel = element("article", "prompt");
        panel.dataset.prompt = prompt;
        seen.observe(panel);
        return panel;
      }),
    );
  };
  const search = () => {
    query = byId("query").value.toLowerCase();
    let hits = 0;
    matching = [...data().byPrompt.keys()].filter((prompt) => {
      let found = 0;
      if (query) for (const samples of data().byPrompt.get(prompt)) for (const text of samples ?? []) found += lower(text).includes(query);
      hits += found;
      return !query || found || (prompts[prompt]?.text ?? "").toLowerCase().includes(query);
    });
    byId("hits").textContent = query ? `${hits} texts, ${matching.length} prompts` : `${matching.length} prompts`;
    page = 0;
    show();
  };
  let typing = 0;
  byId("query").oninput = () => {
    clearTimeout(typing);
    typing = setTimeout(search, 120);
  };
  const turn = (by) => () => {
    page += by;
    show();
    byId("texts").scrollIntoView();
  };
  byId("previous").onclick = turn(-1);
  byId("next").onclick = turn(1);

  requestAnimationFrame(() => {
    setTimeout(() => {
      search();
      prepareCharts();
      document.documentElement.dataset.ready = Math.round(performance.now());
    });
  });
}
