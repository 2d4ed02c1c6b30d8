"use strict";
// The page is whole without this script, and without any part of it that fails. It adds sorting, filtering, copying and plots with hover; it asks no network.
(() => {
  const data = JSON.parse(document.getElementById("page-data").textContent);
  const key = "mtx:" + location.pathname;
  let state = {};
  try { state = JSON.parse(sessionStorage.getItem(key)) || {}; } catch (error) { state = {}; }
  const keep = () => { try { sessionStorage.setItem(key, JSON.stringify(state)); } catch (error) { /* no storage */ } };
  const make = (name, text, attributes = {}) => {
    const element = document.createElement(name);
    if (text !== undefined) element.textContent = text;
    for (const [attribute, value] of Object.entries(attributes)) element.setAttribute(attribute, value);
    return element;
  };
  const colour = number => getComputedStyle(document.documentElement).getPropertyValue("--plot-1" + number % 8).trim();
  const ink = () => getComputedStyle(document.documentElement).getPropertyValue("--ink").trim();
  const grid = () => getComputedStyle(document.documentElement).getPropertyValue("--line").trim();
  const short = value => value === null ? "–" : Math.abs(value) >= 1e6 ? (value / 1e6).toPrecision(3) + " M"
    : Math.abs(value) >= 1e4 ? (value / 1e3).toPrecision(3) + " k" : String(Number(value.toPrecision(5)));
  const armOf = label => label.replace(/^\d+\. /, "");  // without the rank, which changes while the sweep runs
  const redraws = [];  // functions of plots that show or hide arms
  state.hidden = state.hidden || {};
  const hide = (label, hidden) => {
    if (Boolean(state.hidden[armOf(label)]) === hidden) return;
    state.hidden[armOf(label)] = hidden;
    keep();
    redraws.forEach(run => part(run));
  };
  const go = number => {
    const target = document.getElementById("arm-" + number);
    if (!target) return;
    target.open = true;
    location.hash = "arm-" + number;
    target.scrollIntoView();
  };
  const part = (...functions) => functions.forEach(run => {
    try { run(); } catch (error) { console.error(error); }
  });

  // On a large page, a plot is drawn when it comes near the view: measuring its place lays out all sections before it.
  const returns = Boolean(state.scroll) && location.hash === (state.hash || "");  // to a place that depends on all heights
  const isLazy = document.body.classList.contains("large") && "IntersectionObserver" in window && !returns;
  const whenNear = (element, run) => {
    if (!element) return;
    if (!isLazy) { part(run); return; }
    const watch = new IntersectionObserver(entries => {
      if (!entries.some(entry => entry.isIntersecting)) return;
      watch.disconnect();
      part(run);
    }, { rootMargin: "600px" });
    watch.observe(element.closest("section"));
  };

  // Sorting and filtering of tables that are marked with data-sort.
  const value = cell => {
    const number = parseFloat(cell.textContent.replace(/[,\s\u2605\u2248]/g, "").replace("\u2212", "-"));
    return Number.isNaN(number) ? cell.textContent.trim() : number;
  };
  const sorted = (table, column, falling) => {
    const all = [...table.tBodies[0].rows], width = table.tHead.rows[0].cells.length;
    const rows = all.filter(row => row.cells.length === width);
    rows.sort((a, b) => {
      const [x, y] = [value(a.cells[column]), value(b.cells[column])];
      if (typeof x !== typeof y) return typeof x === "number" ? -1 : 1;
      return (x < y ? -1 : x > y ? 1 : 0) * (falling ? -1 : 1);
    });
    table.tBodies[0].append(...rows, ...all.filter(row => row.cells.length !== width));
    [...table.tHead.rows[0].cells].forEach((cell, number) =>
      cell.setAttribute("aria-sort", number === column ? (falling ? "descending" : "ascending") : "none"));
  };
  document.querySelectorAll("table[data-sort]").forEach(table => part(() => {
    const name = table.dataset.sort;
    const mine = state[name] = state[name] || {};
    [...table.tHead.rows[0].cells].forEach((cell, column) => {
      const button = make("button", undefined, { type: "button", class: "sort", title: "sort" });
      button.append(...cell.childNodes);
      cell.append(button);
      button.addEventListener("click", () => {
        const falling = mine.column === column && !mine.falling;
        sorted(table, column, falling);
        mine.falling = falling;
        mine.column = column;
        keep();
      });
    });
    let filtered = false;
    const filter = make("input", undefined, { type: "search", placeholder: "filter rows", "aria-label": "filter rows" });
    const apply = () => {
      const words = (mine.filter || "").toLowerCase().split(/\s+/).filter(word => word);
      if (!words.length && !filtered) return;  // reading the text of thousands of rows takes time
      filtered = words.length > 0;
      if (name === "ranking1") document.body.classList.toggle("filtered", filtered);  // then all rows can be seen
      for (const row of table.tBodies[0].rows)
        row.hidden = !words.every(word => row.textContent.toLowerCase().includes(word));
    };
    filter.value = mine.filter || "";
    filter.addEventListener("input", () => { mine.filter = filter.value; apply(); keep(); });
    table.closest(".scroll").before(filter);
    apply();
    if (mine.column !== undefined && mine.column < table.tHead.rows[0].cells.length) sorted(table, mine.column, mine.falling);
  }));

  // Buttons that copy the text of an element.
  const addCopy = pre => part(() => {
    const button = make("button", pre.dataset.copy, { type: "button", class: "copy" });
    button.addEventListener("click", () => {
      getSelection().selectAllChildren(pre);
      const done = () => { button.textContent = "copied"; setTimeout(() => { button.textContent = pre.dataset.copy; }, 2000); };
      if (navigator.clipboard) navigator.clipboard.writeText(pre.textContent).then(done, () => {});
      else if (document.execCommand("copy")) done();
    });
    if (pre.dataset.place) document.getElementById(pre.dataset.place).append(button);
    else pre.before(button);
  });
  const addCopies = element => element.querySelectorAll("pre[data-copy]:not([data-place])").forEach(pre => {
    if (!pre.previousElementSibling || !pre.previousElementSibling.matches(".copy")) addCopy(pre);
  });
  document.querySelectorAll("pre[data-copy][data-place]").forEach(addCopy);
  // The commands of thousands of arms get their buttons when they are opened.
  document.addEventListener("toggle", event => { if (event.target.open) addCopies(event.target); }, true);

  const select = (label, choices, chosen, change) => {
    const box = make("label", label + " ");
    const list = make("select");
    choices.forEach(([name, text]) => list.append(make("option", text, { value: name })));
    list.value = choices.some(([name]) => name === chosen) ? chosen : choices[0][0];
    list.addEventListener("change", () => change(list.value));
    box.append(list);
    return [box, list];
  };

  // Learning curves: mean over seeds with a band, values at the pointer, arms to hide in the legend.
  const curves = document.getElementById("interactive-curves");
  whenNear(curves, () => {
    if (!data.curves.length) return;
    let plot = null;
    const place = make("div");
    const draw = unit => {
      if (plot) plot.destroy();
      const found = data.curves.find(one => one.unit === unit);
      const series = [{ label: found.axis, value: (_, x) => x === null ? "–" : short(x) }], columns = [found.x], bands = [];
      found.arms.forEach(arm => {
        const stroke = colour(arm.number - 1), shown = !state.hidden[armOf(arm.label)];
        series.push({ label: arm.label, stroke, width: 2, show: shown, spanGaps: true, dash: arm.number <= 8 ? undefined : [6, 3],
          value: (_, y) => y === null || y === undefined ? "–" : y.toFixed(4) });
        columns.push(arm.mean);
        if (arm.low) {
          for (const side of [arm.high, arm.low]) {
            series.push({ label: arm.label, stroke: "transparent", width: 0, points: { show: false }, show: shown, spanGaps: true,
              class: "band" });
            columns.push(side);
          }
          bands.push({ series: [series.length - 2, series.length - 1], fill: stroke + "33" });
        }
      });
      const axis = () => ({ stroke: ink(), grid: { stroke: grid(), width: 1 }, ticks: { stroke: grid() } });
      plot = new uPlot({
        width: Math.max(place.clientWidth, 280), height: 380, series, bands,
        scales: { x: { time: false } },
        axes: [{ ...axis(), label: found.axis, values: (_, ticks) => ticks.map(short) }, { ...axis(), label: "bits per byte", size: 64 }],
        hooks: { setSeries: [(u, number, options) => {
          if (number === null || options.show === undefined) return;
          const label = u.series[number].label;
          u.series.forEach((one, other) => {
            if (other !== number && other > 0 && one.label === label && one.show !== options.show) u.setSeries(other, { show: options.show }, false);
          });
          hide(label, !options.show);
        }], init: [u => {
          u.over.addEventListener("click", () => {
            const at = u.cursor.idx;
            let [nearest, distance] = [null, 40];  // pixels
            if (at !== null && at !== undefined) u.series.forEach((one, other) => {
              const y = other > 0 && one.show && one.class !== "band" ? u.data[other][at] : null;
              const away = y === null || y === undefined ? Infinity : Math.abs(u.valToPos(y, "y") - u.cursor.top);
              if (away < distance) [nearest, distance] = [one.label, away];
            });
            if (nearest !== null) go(found.arms.find(arm => arm.label === nearest).number);
          });
        }] },
      }, columns, place);
    };
    const [box, list] = select("compare at equal", data.curves.map(one => [one.unit, one.axis]), state.unit, unit => {
      state.unit = unit; keep(); draw(unit);
    });
    curves.append(box, place);
    draw(list.value);
    redraws.push(() => plot.series.forEach((one, number) => {
      const shown = number === 0 || !state.hidden[armOf(one.label)];
      if (number > 0 && one.show !== shown) plot.setSeries(number, { show: shown }, false);
    }));
    addEventListener("resize", () => plot.setSize({ width: Math.max(place.clientWidth, 280), height: 380 }));
    document.querySelectorAll(".without-script").forEach(element => { element.hidden = true; });
  });

  // Scatter of two chosen metrics, one point for each arm; a click goes to the arm's commands and jobs.
  const scatter = document.getElementById("interactive-scatter");
  whenNear(scatter, () => {
    const metrics = data.metrics.filter(([name]) => data.arms.filter(arm => arm.metrics[name]).length > 1);
    if (metrics.length < 2) return;
    const space = "http://www.w3.org/2000/svg";
    const shape = (name, attributes, text) => {
      const element = document.createElementNS(space, name);
      for (const [attribute, value] of Object.entries(attributes)) element.setAttribute(attribute, value);
      if (text !== undefined) element.textContent = text;
      return element;
    };
    const [high, left, low] = [380, 70, 56];
    const names = Object.fromEntries(metrics);
    const place = make("div");
    const ticks = (least, most) => {
      const size = 10 ** Math.floor(Math.log10((most - least) / 5)), found = [];
      const step = size * [1, 2, 5, 10].find(times => times * size * 5 >= most - least), first = Math.ceil(least / step);
      for (let n = 0; n < 20 && (first + n) * step <= most; n++) found.push(Number(((first + n) * step).toPrecision(12)));
      return found;
    };
    const draw = () => {
      const [x, y, wide] = [xs.value, ys.value, Math.max(place.clientWidth, 280)];
      const points = data.arms.filter(arm => arm.metrics[x] && arm.metrics[y] && !state.hidden[arm.label]);
      if (!points.length) { place.replaceChildren(make("p", "All arms are hidden.")); return; }
      const range = name => {
        const ends = points.flatMap(arm => [arm.metrics[name][0] - arm.metrics[name][1], arm.metrics[name][0] + arm.metrics[name][1]]);
        const [least, most] = [Math.min(...ends), Math.max(...ends)];
        const size = Math.max(Math.abs(least), Math.abs(most)); // a difference by rounding gives no axis
        const room = (most - least > 1e-9 * size ? most - least : size || 1) * 0.08;
        return [least - room, most + room];
      };
      const [[x0, x1], [y0, y1]] = [range(x), range(y)];
      const atX = value => left + (value - x0) / (x1 - x0) * (wide - left - 20);
      const atY = value => high - low - (value - y0) / (y1 - y0) * (high - low - 20);
      const svg = shape("svg", { viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": `${names[y]} by ${names[x]}` });
      ticks(x0, x1).forEach(at => svg.append(shape("line", { x1: atX(at), x2: atX(at), y1: 20, y2: high - low, stroke: grid() }),
        shape("text", { x: atX(at), y: high - low + 18, "text-anchor": "middle", "font-size": 12 }, short(at))));
      ticks(y0, y1).forEach(at => svg.append(shape("line", { x1: left, x2: wide - 20, y1: atY(at), y2: atY(at), stroke: grid() }),
        shape("text", { x: left - 8, y: atY(at) + 4, "text-anchor": "end", "font-size": 12 }, short(at))));
      const middle = (high - low) / 2;
      svg.append(shape("text", { x: (left + wide) / 2, y: high - 12, "text-anchor": "middle", "font-size": 13 }, names[x]),
        shape("text", { x: 14, y: middle, "text-anchor": "middle", "font-size": 13, transform: `rotate(-90 14 ${middle})` }, names[y]));
      points.forEach(arm => {
        const [cx, cy, stroke] = [atX(arm.metrics[x][0]), atY(arm.metrics[y][0]), colour(arm.number - 1)];
        const link = shape("a", { href: "#arm-" + arm.number });
        link.addEventListener("click", event => { event.preventDefault(); go(arm.number); });
        link.append(shape("line", { x1: atX(arm.metrics[x][0] - arm.metrics[x][1]), x2: atX(arm.metrics[x][0] + arm.metrics[x][1]), y1: cy, y2: cy, stroke }),
          shape("line", { y1: atY(arm.metrics[y][0] - arm.metrics[y][1]), y2: atY(arm.metrics[y][0] + arm.metrics[y][1]), x1: cx, x2: cx, stroke }),
          shape("circle", { cx, cy, r: 6, fill: stroke }),
          shape("text", { x: cx + 9, y: cy - 7, "font-size": 12 }, String(arm.number)),
          shape("title", {}, `${arm.number}. ${arm.label}: ${short(arm.metrics[x][0])}, ${short(arm.metrics[y][0])}`));
        svg.append(link);
      });
      place.replaceChildren(svg);
      state.x = x; state.y = y; keep();
    };
    const [xBox, xs] = select("x", metrics, state.x || metrics[1][0], draw);
    const [yBox, ys] = select("y", metrics, state.y || metrics[0][0], draw);
    const figure = make("figure");
    figure.append(place);
    const shown = make("details"), boxes = make("div", undefined, { class: "arms" });
    shown.append(make("summary", "Arms shown in the plots"), boxes);
    data.arms.forEach(arm => {
      const label = make("label"), box = make("input", undefined, { type: "checkbox" });
      box.addEventListener("change", () => hide(arm.label, !box.checked));
      label.append(box, ` ${arm.number}. ${arm.label}`);
      boxes.append(label);
    });
    const check = () => data.arms.forEach((arm, number) => {
      boxes.children[number].firstChild.checked = !state.hidden[arm.label];
    });
    redraws.push(() => { check(); draw(); });
    addEventListener("resize", () => part(draw));
    scatter.append(xBox, yBox, figure, shown);
    check();
    draw();
  });

  const open = () => {
    const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    if (target && target.tagName === "DETAILS") target.open = true;
  };
  addEventListener("hashchange", open);
  // What is open, and the place, survive a reload; a link to an arm that was not followed before goes to the arm.
  const panels = [...document.querySelectorAll("details")].map(panel => [
    panel.id || panel.firstElementChild.textContent.replace(/[\d,.]+/g, "").slice(0, 80), panel,
  ]);
  part(() => panels.forEach(([name, panel]) => { if ((state.open || []).includes(name)) panel.open = true; }), open);
  if (returns) {
    document.body.classList.add("whole");  // or sections above the place would have no height yet
    scrollTo(0, state.scroll);
  }
  addEventListener("pagehide", () => {
    state.scroll = scrollY;
    state.hash = location.hash;
    state.open = panels.filter(([, panel]) => panel.open).map(([name]) => name).slice(0, 200);
    keep();
  });
  if (data.is_followed && Date.now() - Date.parse(data.as_of) > 600000) {
    const told = document.querySelector(".progress");
    if (told) told.append(make("b", " No news for more than 10 minutes: the sweep may have been killed."));
  }
})();
