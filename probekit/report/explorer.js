"use strict";
/* The explorer: one list of pairs, one of concepts, one page a pair. Every state is in the link (after #).
   Rows are numbers into column arrays; text is only ever set as text. */
const explorer = (() => {
  // ---------------------------------------------------------------- data: what the scripts of the folder hand over

  let meta = null;
  let onDemand = false;
  let readouts = null;
  const columns = new Map();
  const details = new Map();
  const loading = new Map();

  const bytes = (text) => {
    if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text).buffer;
    const spelt = atob(text);
    const held = new Uint8Array(spelt.length);
    for (let i = 0; i < spelt.length; i++) held[i] = spelt.charCodeAt(i);
    return held.buffer;
  };
  const ARRAYS = { concept: Int32Array, int: Int32Array, word: Int32Array, real: Float64Array, flag: Uint8Array };
  const typeOf = (name) => meta.columns[name]?.type ?? meta.hidden[name];
  const given = {
    mode: (value) => { onDemand = value; },
    meta: (value) => { meta = value; },
    column: (name, text, spelt) => columns.set(name, { values: new ARRAYS[typeOf(name)](bytes(text)), words: spelt ?? null }),
    neurons: (start, neuron, weight, share) => {
      readouts = {
        start: new Int32Array(bytes(start)), neuron: new Int32Array(bytes(neuron)),
        weight: new Float64Array(bytes(weight)), share: new Float64Array(bytes(share)),
      };
    },
    details: (held) => { for (const [row, value] of Object.entries(held)) details.set(Number(row), value); },
  };

  /** A script of the folder, loaded once; a page opened from the disk may load nothing else. */
  const load = (file) => {
    if (!loading.has(file)) {
      loading.set(file, new Promise((done, failed) => {
        const script = document.createElement("script");
        script.src = file;
        script.onload = done;
        script.onerror = () => {
          loading.delete(file);
          failed(new Error(`${file} cannot be loaded. The folder must be complete, and a served explorer still running.`));
        };
        document.head.append(script);
      }));
    }
    return loading.get(file);
  };
  const need = (names) => Promise.all(names.filter((name) => !columns.has(name)).map((name) => load(`columns/${name}.js`)));
  const needReadouts = () => (readouts ? Promise.resolve() : load("neurons.js"));
  const hasDetail = (row) => onDemand || columns.get("detail").values[row] >= 0;
  const needDetail = async (row) => {
    await need(["detail"]);
    if (details.has(row) || !hasDetail(row)) return;
    const chunk = columns.get("detail").values[row];
    await load(chunk >= 0 ? `details/${String(chunk).padStart(4, "0")}.js` : `details/row-${row}.js`);
  };

  const value = (name, row) => {
    const { values, words } = columns.get(name);
    if (name === "a" || name === "b") return meta.concepts[values[row]].name;
    return words ? words[values[row]] : values[row];
  };

  // ---------------------------------------------------------------- numbers in words, as the report spells them

  const NONE = "–";
  const real = (number, digits = 2) => {
    if (number === null || !Number.isFinite(number)) return NONE;
    const [whole, rest] = Math.abs(number).toFixed(digits).split(".");
    const grouped = whole.replace(/\B(?=(\d{3})+$)/g, "\u202f");
    const text = rest ? `${grouped}.${rest}` : grouped;
    return number < 0 && /[1-9]/.test(text) ? `\u2212${text}` : text;
  };
  const count = (number) => (number === null ? NONE : real(number, 0));
  const plural = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;
  const percent = (share, digits = 0) => (Number.isFinite(share) ? `${real(100 * share, digits)}\u202f%` : NONE);
  const probability = (number) => {
    if (!Number.isFinite(number)) return NONE;
    if (number >= 0.001 || number === 0) return real(number, 3);
    const [lead, power] = number.toExponential(0).split("e-");
    return `${lead}e\u2212${power.padStart(2, "0")}`;
  };
  const SPELT = { real, probability, share: (number) => percent(number, 1) };
  const spelt = (name, row) => {
    const { type, show } = meta.columns[name];
    const held = value(name, row);
    if (type === "flag") return ["no", "yes", NONE][held];
    if (type === "int") return count(held);
    return type === "real" ? SPELT[show](held) : held || NONE;
  };

  // ---------------------------------------------------------------- elements

  const byId = (id) => document.getElementById(id);
  const h = (tag, given_, ...children) => {
    const made = document.createElement(tag);
    for (const [name, held] of Object.entries(given_ ?? {})) {
      if (held === null || held === undefined || held === false) continue;
      if (name.startsWith("on")) made.addEventListener(name.slice(2), held);
      else made.setAttribute(name, held === true ? "" : held);
    }
    made.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return made;
  };
  const svg = (tag, attributes, ...children) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, held] of Object.entries(attributes ?? {})) made.setAttribute(name, held);
    made.append(...children);
    return made;
  };
  const tip = (label, meaning) => (meaning ? h("abbr", { class: "tip", tabindex: 0, title: meaning }, label) : label);
  const trouble = (error) => {
    byId("trouble").textContent = error.message;
    byId("trouble").hidden = false;
  };

  // ---------------------------------------------------------------- the state, which is the link

  const KEYS = ["view", "q", "layer", "rung", "kind", "concept", "neuron", "sort", "ckind", "csort", "a", "b", "at"];
  let state = {};
  const read = () => {
    const held = new URLSearchParams(location.hash.slice(1));
    return Object.fromEntries(KEYS.filter((key) => held.get(key)).map((key) => [key, held.get(key)]));
  };
  const link = (wanted) => {
    const held = new URLSearchParams();
    for (const key of KEYS) if (wanted[key]) held.set(key, wanted[key]);
    return `#${held}`;
  };
  /** Another state. A step of the history, but for what is typed. */
  const go = (changed, { typed = false } = {}) => {
    const wanted = link({ ...state, ...changed });
    if (wanted === (location.hash || "#")) return draw();
    if (!typed) { location.hash = wanted; return undefined; }
    state = { ...state, ...changed };
    try { history.replaceState(null, "", wanted); } catch { location.replace(wanted); }
    return draw();
  };
  const inList = (changed) => ({ ...state, a: "", b: "", at: "", ...changed });
  const ofConcept = (name) => link({ concept: name });
  const ofNeuron = (layer, neuron) => link({ neuron: `${layer}.${neuron}` });
  const ofPair = (row) => link({ ...state, view: "", a: value("a", row), b: value("b", row), at: String(value("layer", row)) });

  // ---------------------------------------------------------------- which rows, in which order

  let concepts = [];
  let pairsOf = new Map();
  const orders = new Map();
  /** Row numbers by a column, missing values last in both directions; ties keep the order of strength. */
  const inOrder = (name, down) => {
    const key = `${down ? "-" : ""}${name}`;
    if (!orders.has(key)) orders.set(key, sorted(name, down));
    return orders.get(key);
  };
  const byStrength = () => {
    const rows = new Uint32Array(meta.n);
    columns.get("rank").values.forEach((rank, row) => { rows[rank - 1] = row; });
    return rows;
  };
  const sorted = (name, down) => {
    const { values, words } = columns.get(name);
    const rows = byStrength();
    const spelling = name === "a" || name === "b" ? meta.concepts.map((held) => held.name) : words;
    if (spelling) return inBuckets(rows, values, places(spelling, down));
    if (typeOf(name) === "flag") return inBuckets(rows, values, down ? [1, 0, 2] : [0, 1, 2]);
    const sign = down ? -1 : 1;
    const present = rows.filter((row) => !Number.isNaN(values[row]));
    const missing = rows.filter((row) => Number.isNaN(values[row]));
    present.sort((x, y) => (values[x] === values[y] ? 0 : values[x] > values[y] ? sign : -sign));
    rows.set(present);
    rows.set(missing, present.length);
    return rows;
  };
  const places = (spelling, down) => {
    const collator = new Intl.Collator("en", { numeric: true });
    const inTurn = [...spelling.keys()].sort((x, y) => collator.compare(spelling[x], spelling[y]));
    const place = new Int32Array(spelling.length);
    (down ? inTurn.reverse() : inTurn).forEach((code, at) => { place[code] = at; });
    return place;
  };
  /** A counting sort: few different values, many rows. */
  const inBuckets = (rows, values, place) => {
    const next = new Uint32Array(place.length + 1);
    for (const row of rows) next[place[values[row]] + 1]++;
    for (let i = 1; i < next.length; i++) next[i] += next[i - 1];
    const out = new Uint32Array(rows.length);
    for (const row of rows) out[next[place[values[row]]]++] = row;
    return out;
  };

  const said = (text) => text.toLocaleLowerCase("en");
  let spoken = [];
  const asked = () => said(state.q ?? "").split(/\s+/).filter(Boolean);

  const filtered = () => {
    let kept = inOrder(...sorting());
    const keep = (test) => {
      const out = new Uint32Array(kept.length);
      let n = 0;
      for (let i = 0; i < kept.length; i++) if (test(kept[i])) out[n++] = kept[i];
      kept = out.subarray(0, n);
    };
    const [a, b, layers] = ["a", "b", "layer"].map((name) => columns.get(name).values);
    for (const word of asked()) {
      const hit = Uint8Array.from(spoken, (text) => text.includes(word));
      keep((row) => hit[a[row]] || hit[b[row]]);
    }
    if (state.layer) { const layer = Number(state.layer); keep((row) => layers[row] === layer); }
    const spells = (name, text) => {
      const { values, words } = columns.get(name);
      const code = words.indexOf(text);
      keep((row) => values[row] === code);
    };
    if (state.kind) spells("kind", state.kind);
    if (meta.rungs.some(([flag]) => flag === state.rung)) { const flags = columns.get(state.rung).values; keep((row) => flags[row] === 1); }
    else if (state.rung) spells("verdict", "no find");
    if (state.concept) {
      const wanted = concepts.findIndex((held) => held.name === state.concept);
      keep((row) => a[row] === wanted || b[row] === wanted);
    }
    const at = neuronAsked();
    if (at) keep((row) => layers[row] === at.layer && entryOf(row, at.neuron) >= 0);
    return kept;
  };
  const sorting = () => {
    const asked = state.sort || "rank";
    const name = asked.replace(/^-/, "");
    return name in meta.columns ? [name, asked.startsWith("-")] : ["rank", false];
  };
  const neuronAsked = () => {
    const found = /^(\d+)\.(\d+)$/.exec(state.neuron ?? "");
    return found && { layer: Number(found[1]), neuron: Number(found[2]) };
  };
  /** Where a neuron stands in the readout of a pair; below 0 where it does not. */
  const entryOf = (row, neuron) => {
    for (let i = readouts.start[row]; i < readouts.start[row + 1]; i++) if (readouts.neuron[i] === neuron) return i;
    return -1;
  };
  const shareOf = (row, entry) => {
    let total = 0;
    for (let i = readouts.start[row]; i < readouts.start[row + 1]; i++) total += Math.abs(readouts.share[i]);
    return readouts.share[entry] / (total || 1);
  };

  // ---------------------------------------------------------------- a list of which only what is seen is drawn

  const grid = {
    host: null, body: null, rows: [], fields: [], active: 0, height: 0, seen: 0, top: 0, kept: new Map(), name: "",
    /** What a layout is needed for, asked once a size of the window. */
    measure() {
      const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
      this.height = Math.round(rem * (matchMedia("(max-width: 44rem)").matches ? 4.3 : 2.15));
      this.seen = this.host.clientHeight;
    },
    to(top) {
      if (top === this.top) return;
      this.host.scrollTop = top;
      this.top = this.host.scrollTop;
    },
    show({ name, label, rows, fields, open, sort, onsort }) {
      const fresh = this.name !== name;
      Object.assign(this, { name, rows, fields, open });
      if (!this.seen) this.measure();
      this.host.setAttribute("aria-label", label);
      this.host.setAttribute("aria-rowcount", rows.length + 1);
      this.host.setAttribute("aria-colcount", fields.length);
      for (const [columns, held] of [["--columns", fields], ["--few", fields.filter((field) => !field.minor)]]) {
        this.host.style.setProperty(columns, held.map((field) => field.width).join(" "));
      }
      this.host.style.setProperty("--row", `${this.height}px`);
      const heads = fields.map((field) => {
        const sorted = field.name === sort[0] && (sort[1] ? "descending" : "ascending");
        const button = h("button", { type: "button", tabindex: -1, class: field.meaning ? "tip" : null, title: field.meaning,
          onclick: () => onsort(field.name, field.name === sort[0] ? !sort[1] : field.number) }, field.label);
        return h("div", { role: "columnheader", class: [field.number ? "n" : "", field.minor ? "minor" : ""].join(" ").trim() || null, "aria-sort": sorted || "none" }, button);
      });
      this.body = h("div", { role: "rowgroup", class: "rows" });
      this.body.style.height = `${rows.length * this.height}px`;
      this.host.replaceChildren(h("div", { role: "rowgroup", class: "head" }, h("div", { role: "row", "aria-rowindex": 1 }, heads)), this.body);
      const place = fresh ? this.kept.get(name) : null;
      this.active = Math.min((fresh ? place?.active : this.active) ?? 0, Math.max(rows.length - 1, 0));
      const top = fresh ? place?.top ?? 0 : this.top;
      if (top || this.top) {  // a list that was hidden has lost its place
        this.host.scrollTop = top;
        this.top = this.host.scrollTop;
      }
      this.draw();
    },
    leave() { this.kept.set(this.name, { top: this.top, active: this.active }); },
    draw() {
      const first = Math.max(0, Math.floor(this.top / this.height) - 6);
      const last = Math.min(this.rows.length, first + Math.ceil(this.seen / this.height) + 12);
      const drawn = [];
      for (let at = first; at < last; at++) drawn.push(this.row(at));
      this.body.replaceChildren(...drawn);
      if (this.rows.length) this.host.setAttribute("aria-activedescendant", `row-${this.active}`);
      else this.host.removeAttribute("aria-activedescendant");
    },
    row(at) {
      const row = this.rows[at];
      const cells = this.fields.map((field) =>
        h("div", { role: "gridcell", class: [field.number ? "n" : "", field.minor ? "minor" : "", field.className ?? ""].join(" ").trim() || null,
          "data-label": field.label, title: field.number ? null : field.text?.(row) }, field.cell(row)));
      const made = h("div", { role: "row", id: `row-${at}`, class: at === this.active ? "row active" : "row", "aria-rowindex": at + 2,
        "aria-selected": at === this.active ? "true" : "false",
        onclick: (event) => {
          if (event.target.closest("a") || String(getSelection())) return;
          this.active = at;
          this.open(row);
        } }, cells);
      made.style.transform = `translateY(${at * this.height}px)`;
      return made;
    },
    move(to) {
      if (!this.rows.length) return;
      this.active = Math.max(0, Math.min(this.rows.length - 1, to));
      const top = this.active * this.height;
      const room = this.seen - this.host.querySelector(".head").offsetHeight - this.height;
      if (top < this.top) this.to(top);
      else if (top > this.top + room) this.to(top - room);
      this.draw();
    },
    key(event) {
      const page = Math.max(1, Math.floor(this.seen / this.height) - 2);
      const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity }[event.key];
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (step !== undefined) { event.preventDefault(); this.move(this.active + step); }
      if (event.key === "Enter" && this.rows.length && event.target === this.host) { event.preventDefault(); this.open(this.rows[this.active]); }
    },
  };

  // ---------------------------------------------------------------- the list of pairs

  const WIDTHS = { layer: "3.6rem", a: "minmax(7rem,2fr)", b: "minmax(7rem,2fr)", kind: "minmax(8.5rem,3fr)", verdict: "minmax(12.5rem,.6fr)" };
  const rung = (row) => {
    const text = spelt("verdict", row);
    return h("span", { class: text.startsWith("computed") ? "found" : text === "no find" ? "nothing" : null }, text);
  };
  const field = (name) => {
    const { label, meaning, type } = meta.columns[name];
    const number = type === "int" || type === "real";
    const concept = name === "a" || name === "b";
    return {
      name, label, meaning, number, width: WIDTHS[name] ?? (number ? "minmax(4.6rem,.7fr)" : "minmax(5.5rem,1fr)"),
      minor: !["layer", "a", "b", "verdict", "d_prime", "q"].includes(name) && name !== sorting()[0],
      className: concept ? "concept" : name === "verdict" ? "verdict" : "",
      text: concept ? (row) => [value(name, row), meta.concepts[columns.get(name).values[row]].meaning].filter(Boolean).join(": ") : (row) => spelt(name, row),
      cell: (row) => (name === "a" ? h("a", { href: ofPair(row), tabindex: -1 }, h("bdi", null, spelt(name, row)))
        : concept ? h("bdi", null, spelt(name, row)) : name === "verdict" ? rung(row) : spelt(name, row)),
    };
  };
  let rows = [];
  const chips = () => {
    const made = [];
    const off = (text, changed) => h("a", { class: "chip", href: link({ ...state, ...changed }) }, text, h("span", { "aria-label": "remove" }, " ✕"));
    if (state.concept) made.push(off(h("span", null, "with ", h("bdi", null, state.concept)), { concept: "" }));
    const at = neuronAsked();
    if (at) made.push(off(`on neuron ${at.neuron} of layer ${at.layer}`, { neuron: "" }));
    if (["q", "layer", "rung", "kind"].some((key) => state[key])) made.push(h("a", { class: "chip all", href: link(state.sort ? { sort: state.sort } : {}) }, "clear all"));
    return made;
  };
  const drawPairs = () => {
    rows = filtered();
    const [name, down] = sorting();
    const fields = meta.shown.map(field);
    if (!meta.shown.includes(name) && name !== "rank") fields.push(field(name));
    const at = neuronAsked();
    if (at) {
      for (const [label, told] of [["Weight", (row) => real(readouts.weight[entryOf(row, at.neuron)])], ["Share", (row) => percent(shareOf(row, entryOf(row, at.neuron)))]]) {
        fields.push({ name: "", label, meaning: meta.terms[label], number: true, width: "4.3rem", cell: told });
      }
    }
    byId("count").textContent = rows.length === meta.n ? plural(rows.length, "pair") : `${count(rows.length)} of ${plural(meta.n, "pair")}`;
    byId("chips").replaceChildren(...chips());
    grid.show({
      name: `pairs ${link({ ...state, a: "", b: "", at: "" })}`, label: "Pairs", rows, fields, sort: [name, down],
      open: (row) => { location.hash = ofPair(row); },
      onsort: (by, turned) => by && go({ sort: `${turned ? "-" : ""}${by}` }),
    });
  };

  // ---------------------------------------------------------------- the list of concepts

  const CONCEPT_FIELDS = [
    { name: "name", label: "Concept", width: "minmax(9rem,2fr)", className: "concept" },
    { name: "meaning", label: "Holds where", width: "minmax(9rem,2.6fr)", minor: true },
    { name: "kind", label: "Kind", width: "minmax(5rem,.8fr)", className: "verdict" },
    { name: "n_tokens", label: "Tokens", number: true, meaning: "Counted tokens of the run’s text at which it holds." },
    { name: "n_docs", label: "Documents", number: true, minor: true, meaning: "Documents with such a token." },
    { name: "n_pairs", label: "Pairs", number: true, meaning: "Tested pairs with this concept, over all layers." },
    { name: "n_above", label: "Above twins", number: true, meaning: "Of them above their null layers, relays removed." },
    { name: "n_computed", label: "Computed", number: true, meaning: "Of them more than the other pairs of its concepts predict." },
  ];
  const drawConcepts = () => {
    const wanted = asked();
    const [by, down] = [(state.csort || "-n_pairs").replace(/^-/, ""), (state.csort || "-n_pairs").startsWith("-")];
    const collator = new Intl.Collator("en", { numeric: true });
    const compare = (x, y) => {
      const [p, q] = [concepts[x][by], concepts[y][by]];
      if (p === null || q === null) return (p === null) - (q === null);
      return (down ? -1 : 1) * (typeof p === "number" ? p - q : collator.compare(p, q)) || x - y;
    };
    const found = [...concepts.keys()].filter((i) => (!state.ckind || concepts[i].kind === state.ckind) && wanted.every((word) => spoken[i].includes(word))).sort(compare);
    byId("count").textContent = found.length === concepts.length ? plural(found.length, "concept") : `${count(found.length)} of ${plural(concepts.length, "concept")}`;
    byId("chips").replaceChildren();
    const fields = CONCEPT_FIELDS.map((held) => ({
      width: "minmax(4.3rem,.7fr)", ...held,
      text: (i) => (held.name === "name" ? [concepts[i].name, ...concepts[i].examples].join("\n") : String(concepts[i][held.name])),
      cell: (i) => {
        const shown = concepts[i][held.name];
        if (held.name === "name") return h("a", { href: ofConcept(concepts[i].name), tabindex: -1 }, h("bdi", null, shown));
        return held.number ? count(shown) : h("bdi", null, shown || NONE);
      },
    }));
    grid.show({
      name: `concepts ${link(state)}`, label: "Concepts", rows: found, fields, sort: [by, down],
      open: (i) => { location.hash = ofConcept(concepts[i].name); },
      onsort: (name, turned) => go({ csort: `${turned ? "-" : ""}${name}` }),
    });
  };

  // ---------------------------------------------------------------- one pair

  const QUADRANT_HEIGHT = 38;
  /** The readout in the four quadrants: a histogram each, on one scale. */
  const ridges = (row, held) => {
    const width = 340, left = 8, wide = width - 2 * left, names = meta.quadrants;
    const reach = (held.high - held.low) || 1;
    const x = (at) => left + (wide * (at - held.low)) / reach;
    const made = names.flatMap(([key, name], i) => {
      const counts = held.counts[key], base = (i + 1) * (QUADRANT_HEIGHT + 14), tallest = Math.max(...counts, 1), bin = wide / counts.length;
      const path = counts.map((n, j) => `V${(base - (QUADRANT_HEIGHT * n) / tallest).toFixed(1)}H${(left + (j + 1) * bin).toFixed(1)}`).join("");
      const text = svg("text", { x: width - left, y: base - QUADRANT_HEIGHT - 2, class: `name q${key}` });
      text.textContent = `${name}: ${plural(value(`n${key}`, row), "token")}`;
      return [svg("path", { d: `M${left},${base}${path}V${base}Z`, class: `ridge q${key}` }), text];
    });
    const bottom = 4 * (QUADRANT_HEIGHT + 14);
    const marks = [0, 1].filter((at) => at >= held.low && at <= held.high).flatMap((at) => {
      const text = svg("text", { x: x(at), y: bottom + 16, class: "tick" });
      text.textContent = String(at);
      const lines = names.map((_, i) => (i + 1) * (QUADRANT_HEIGHT + 14))  // not through the names
        .map((base) => svg("line", { x1: x(at), x2: x(at), y1: base - QUADRANT_HEIGHT, y2: base, class: "mark" }));
      return [...lines, text];
    });
    const axis = svg("text", { x: width - left, y: bottom + 30, class: "name" });
    axis.textContent = "readout (0: not A∧B, 1: A∧B)";
    const label = names.map(([key, name]) => `${name} ${plural(held.counts[key].reduce((sum, n) => sum + n, 0), "sampled token")}`).join(", ");
    return svg("svg", { viewBox: `0 0 ${width} ${bottom + 36}`, role: "img", "aria-label": `Histogram of the readout by quadrant: ${label}` }, ...marks, ...made, axis);
  };
  /** d′ of the layer beside that of its null layers, on one line. */
  const strip = (row, held) => {
    const width = 340, own = value("d_prime", row);
    const all = [0, own, ...held.twins].filter(Number.isFinite);
    const [low, high] = [Math.min(...all), Math.max(...all)];
    const x = (d) => 14 + ((width - 28) * (d - low)) / ((high - low) || 1);
    const made = held.twins.map((d) => svg("circle", { cx: x(d), cy: 32, r: 4.5, class: "twin" }));
    made.push(svg("circle", { cx: x(own), cy: 32, r: 6, class: "own" }));
    const texts = [[0, "0", 52, "tick"], [own, `this layer ${real(own)}`, 20, "own"]].map(([d, text, y, kind]) => {
      const anchor = x(d) > width - 70 ? "end" : x(d) < 70 ? "start" : "middle";
      const drawn = svg("text", { x: x(d) + (anchor === "end" ? 8 : anchor === "start" ? -8 : 0), y, class: kind, "text-anchor": anchor });
      drawn.textContent = text;
      return drawn;
    });
    const range = held.twins.length ? `; ${plural(held.twins.length, "null layer")} from ${real(Math.min(...held.twins))} to ${real(Math.max(...held.twins))}` : "; no null layer";
    return svg("svg", { viewBox: `0 0 ${width} 58`, role: "img", "aria-label": `d′ of this layer ${real(own)}${range}` },
      svg("line", { x1: 8, x2: width - 8, y1: 32, y2: 32, class: "mark" }), svg("line", { x1: x(0), x2: x(0), y1: 26, y2: 38, class: "mark" }), ...made, ...texts);
  };
  const figures = (row, held) =>
    h("figure", { class: "drawn" }, ridges(row, held), strip(row, held),
      h("figcaption", null, "Above: how the readout lies in each quadrant, the tallest bin of each at one height. Below: ",
        tip("d′", meta.columns.d_prime.meaning), " of this layer (blue) and of its null layers (grey)."));

  const neuronTable = (row) => {
    const layer = value("layer", row);
    const [first, last] = [readouts.start[row], readouts.start[row + 1]];
    const served = new Map();
    const layers = columns.get("layer").values;
    for (let r = 0; r < meta.n; r++) if (layers[r] === layer) {
      for (let i = readouts.start[r]; i < readouts.start[r + 1]; i++) served.set(readouts.neuron[i], (served.get(readouts.neuron[i]) ?? 0) + 1);
    }
    const largest = Math.abs(readouts.share[first]) || 1;
    const lines = [];
    for (let i = first; i < last; i++) {
      const bar = h("span", { class: readouts.share[i] < 0 ? "bar minus" : "bar" });
      bar.style.width = `${((100 * Math.abs(readouts.share[i])) / largest).toFixed(1)}%`;
      const neuron = readouts.neuron[i];
      lines.push(h("tr", null,
        h("th", { scope: "row" }, h("a", { href: ofNeuron(layer, neuron), "aria-label": `Neuron ${neuron}: all its pairs` }, String(neuron))),
        h("td", { class: "n" }, count(served.get(neuron))), h("td", { class: "n" }, real(readouts.weight[i])), h("td", { class: "n" }, percent(shareOf(row, i))),
        h("td", { class: "barcell" }, bar)));
    }
    return h("table", { class: "neurons" },
      h("caption", null, "Its neurons, by their share of the contrast. A neuron leads to all pairs it serves."),
      h("thead", null, h("tr", null, h("th", { scope: "col" }, "Neuron"), h("th", { scope: "col", class: "n" }, tip("Pairs", "Tested pairs of this layer whose readout uses the neuron.")),
        h("th", { scope: "col", class: "n" }, tip("Weight", meta.terms.Weight)), h("th", { scope: "col", class: "n" }, tip("Share", meta.terms.Share)), h("td", null))),
      h("tbody", null, lines));
  };
  const quadrantGrid = (held) =>
    h("div", { class: "quadrants" }, meta.quadrants.map(([key, name]) =>
      h("div", { class: `quadrant q${key}` }, h("h3", null, name),
        held.contexts[key].length ? h("ul", null, held.contexts[key].map(([before, token, after, at]) =>
          h("li", null, h("span", { class: "value" }, real(at)), h("span", { class: "text", dir: "auto" }, before, h("mark", null, token), after))))
          : h("p", { class: "none" }, "no token kept"))));
  const layerTable = (row) => {
    const a = columns.get("a").values, b = columns.get("b").values;
    const same = [];
    for (let r = 0; r < meta.n; r++) if (a[r] === a[row] && b[r] === b[row]) same.push(r);
    if (same.length < 2) return null;
    const shown = ["layer", "verdict", "d_prime", "twin_low", "twin_high", "d_prime_relay", "d_prime_relay_twins", "q"];
    return h("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "The pair in every layer" }, h("table", { class: "layers" },
      h("caption", null, "The pair in every measured layer."),
      h("thead", null, h("tr", null, shown.map((name) => h("th", { scope: "col", class: field(name).number ? "n" : null }, tip(field(name).label, field(name).meaning))))),
      h("tbody", null, same.map((r) => h("tr", { "aria-current": r === row ? "true" : null }, shown.map((name) =>
        name === "layer" ? h("th", { scope: "row", class: "n" }, r === row ? spelt(name, r) : h("a", { href: ofPair(r) }, spelt(name, r)))
          : h("td", { class: field(name).number ? "n" : null }, spelt(name, r))))))));
  };
  const numbers = (row) =>
    h("section", { class: "numbers", "aria-label": "All numbers" }, h("h2", null, "All numbers"),
      h("dl", null, Object.entries(meta.columns).filter(([name]) => !["a", "b", "layer", "rank"].includes(name)).map(([name, { label, meaning }]) =>
        h("div", null, h("dt", null, tip(label, meaning)), h("dd", null, spelt(name, row))))));
  const concept = (letter, name) => {
    const held = meta.concepts.find((one) => one.name === name);
    const n = pairsOf.get(name) ?? 0;
    return h("p", { class: "meanings" }, h("b", null, letter), " ", h("bdi", null, held.meaning || name), " ",
      h("a", { href: ofConcept(name), "aria-label": `all its ${plural(n, "pair")}: ${name}` }, `all its ${plural(n, "pair")}`));
  };
  const reading = (row) => {
    const filled = { layer: String(value("layer", row)), d: real(value("d_prime", row), 1), low: real(value("twin_low", row), 1), high: real(value("twin_high", row), 1) };
    return value("reading", row).replace(/\{(\w+)\}/g, (_, key) => filled[key]);
  };
  const walk = (row) => {
    const at = rows.indexOf(row);
    const step = (to, label, text) => (at >= 0 && to >= 0 && to < rows.length
      ? h("a", { href: ofPair(rows[to]), rel: label, "aria-label": `${label} pair` }, text) : h("span", { class: "off" }, text));
    return h("nav", { class: "walk", "aria-label": "Between pairs" },
      h("a", { href: link(inList({})), id: "back" }, "↑ list"), step(at - 1, "previous", "← previous"),
      h("span", { class: "place" }, at >= 0 ? `${count(at + 1)} of ${count(rows.length)}` : "not in the list"), step(at + 1, "next", "next →"));
  };
  const absent = (row) => {
    const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
    return h("div", { class: "note" }, h("p", null, `This folder holds the histograms and tokens of the strongest pairs of each layer (${count(meta.n_detailed)} in all), and this pair is not one of them. The run has them for every pair: probekit explore RUN serves all of them, and`),
      h("pre", { tabindex: 0 }, `probekit pair RUN ${quoted(value("a", row))} ${quoted(value("b", row))} --layer ${value("layer", row)}`), h("p", null, "prints this one."));
  };
  const find = () => {
    const a = concepts.findIndex((held) => held.name === state.a), b = concepts.findIndex((held) => held.name === state.b);
    const [left, right, layers] = ["a", "b", "layer"].map((name) => columns.get(name).values);
    for (let row = 0; row < meta.n; row++) {
      if (layers[row] === Number(state.at) && ((left[row] === a && right[row] === b) || (left[row] === b && right[row] === a))) return row;
    }
    return -1;
  };
  let opened = -1;
  const drawPair = async () => {
    const row = find();
    const host = byId("pair");
    opened = row;
    if (row < 0) {
      host.replaceChildren(h("nav", { class: "walk" }, h("a", { href: link(inList({})), id: "back" }, "↑ list")),
        h("p", { class: "note" }, "No such pair was tested in this run: ", h("bdi", null, state.a), " ∧ ", h("bdi", null, state.b), ` in layer ${state.at}.`));
      return;
    }
    await Promise.all([need([...Object.keys(meta.columns), "reading"]), needReadouts(), needDetail(row)]);
    if (opened !== row || !state.a) return;
    const held = details.get(row);
    const name = (text) => h("bdi", { class: "concept" }, text);
    host.replaceChildren(
      walk(row),
      h("h2", { class: "title", tabindex: -1, id: "title" }, name(value("a", row)), " ", h("abbr", { class: "and", title: "and" }, "∧"), " ", name(value("b", row)),
        h("small", null, `layer ${value("layer", row)} · ${value("verdict", row)} · ${value("kind", row)}`)),
      concept("A", value("a", row)), concept("B", value("b", row)),
      h("p", { class: "reading" }, reading(row)),
      h("div", { class: "pairgrid" }, h("div", { class: "side" }, ...(held ? [figures(row, held)] : []), neuronTable(row)),
        h("div", null, held ? quadrantGrid(held) : absent(row), layerTable(row))),
      numbers(row));
    document.title = `${value("a", row)} ∧ ${value("b", row)}, layer ${value("layer", row)}`;
    byId("title").focus({ preventScroll: true });
    scrollTo(0, 0);
  };

  // ---------------------------------------------------------------- all of it

  const filled = new Map();
  const options = (id, entries, chosen) => {
    if (filled.get(id) !== entries) byId(id).replaceChildren(...entries.map(([held, text]) => h("option", { value: held }, text)));
    filled.set(id, entries);
    byId(id).value = entries.some(([held]) => held === chosen) ? chosen : entries[0][0];
  };
  const tally = (name) => {
    const { values, words } = columns.get(name);
    const found = new Map();
    for (const code of values) found.set(code, (found.get(code) ?? 0) + 1);
    return [...found].map(([code, n]) => [words ? words[code] : code, n]);
  };
  let choices = null;
  const gather = () => {
    const flagged = (flag) => columns.get(flag).values.reduce((sum, held) => sum + (held === 1), 0);
    const none = tally("verdict").find(([text]) => text === "no find")?.[1] ?? 0;
    choices = {
      layer: [["", "all"], ...tally("layer").sort((x, y) => x[0] - y[0]).map(([layer, n]) => [String(layer), `${layer} (${count(n)})`])],
      rung: [["", "all"], ...meta.rungs.map(([flag, label]) => [flag, `${label} (${count(flagged(flag))})`]), ["none", `No find (${count(none)})`]],
      kind: [["", "all"], ...tally("kind").sort((x, y) => y[1] - x[1]).map(([kind, n]) => [kind, `${kind} (${count(n)})`])],
      sort: Object.entries(meta.columns).map(([name, { label }]) => [name, label]),
      csort: CONCEPT_FIELDS.map(({ name, label }) => [name, label]),
      ckind: [["", "all"], ...[...new Set(concepts.map((held) => held.kind))].sort().map((kind) => [kind, kind || "not known"])],
    };
    choices.sort.sort((x, y) => (y[0] === "rank") - (x[0] === "rank"));
  };
  const countPairs = () => {
    const above = columns.get("above_twins").values, computed = columns.get("computed").values;
    concepts = meta.concepts.map((held) => ({ ...held, n_pairs: 0, n_above: 0, n_computed: 0 }));
    for (const side of ["a", "b"]) {
      const of = columns.get(side).values;
      for (let row = 0; row < meta.n; row++) {
        const held = concepts[of[row]];
        held.n_pairs++;
        held.n_above += above[row] === 1;
        held.n_computed += computed[row] === 1;
      }
    }
    pairsOf = new Map(concepts.map((held) => [held.name, held.n_pairs]));
    spoken = concepts.map((held) => said(`${held.name}\n${held.meaning}`));
  };

  const draw = () => {
    byId("trouble").hidden = true;
    const listed = state.view === "concepts";
    const wanted = [sorting()[0]];
    const missing = wanted.some((name) => !columns.has(name)) || (neuronAsked() && !readouts);
    if (missing) {
      Promise.all([need(wanted), neuronAsked() ? needReadouts() : null]).then(draw, trouble);
      return;
    }
    const pair = Boolean(state.a && state.b && state.at);
    if (pair && !byId("list").hidden) grid.leave();
    byId("list").hidden = pair;
    byId("pair").hidden = !pair;
    byId("skip").hidden = pair;
    document.body.classList.toggle("open", pair);
    if (pair) {
      if (!rows.length) rows = filtered();
      drawPair().catch(trouble);
      return;
    }
    opened = -1;
    document.title = byId("list").dataset.title;
    if (byId("q").value !== (state.q ?? "")) byId("q").value = state.q ?? "";
    for (const label of document.querySelectorAll(".pairs-only")) label.hidden = listed;
    const by = listed ? (state.csort || "-n_pairs").replace(/^-/, "") : sorting()[0];
    options("layer", choices.layer, state.layer ?? "");
    options("rung", choices.rung, state.rung ?? "");
    options("kind", listed ? choices.ckind : choices.kind, (listed ? state.ckind : state.kind) ?? "");
    options("sort", listed ? choices.csort : choices.sort, by);
    byId("to-pairs").href = link({ ...state, view: "" });
    byId("to-concepts").href = link({ ...state, view: "concepts" });
    byId("to-pairs").setAttribute("aria-current", listed ? "false" : "page");
    byId("to-concepts").setAttribute("aria-current", listed ? "page" : "false");
    (listed ? drawConcepts : drawPairs)();
  };
  const moved = () => {
    const before = state;
    state = read();
    const closed = before.a && !state.a, last = opened;
    draw();
    if (!closed) return;
    byId("grid").focus({ preventScroll: true });
    // back where one was, or where one has walked to
    if (state.view !== "concepts" && rows.includes(last)) grid.move(rows.indexOf(last));
  };
  const listen = () => {
    addEventListener("hashchange", moved);
    byId("q").addEventListener("input", () => go({ q: byId("q").value }, { typed: true }));
    byId("q").addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown") { event.preventDefault(); byId("grid").focus(); }
      if (event.key === "Enter" && grid.rows.length) grid.open(grid.rows[grid.active]);
    });
    byId("layer").addEventListener("change", (event) => go({ layer: event.target.value }));
    byId("rung").addEventListener("change", (event) => go({ rung: event.target.value }));
    byId("kind").addEventListener("change", (event) => go({ [state.view === "concepts" ? "ckind" : "kind"]: event.target.value }));
    const key = () => (state.view === "concepts" ? "csort" : "sort");
    byId("sort").addEventListener("change", (event) => {
      const name = event.target.value;
      const number = ["real", "int"].includes(meta.columns[name]?.type) && !/^(p_|q|rank$|layer$|eps95$)/.test(name);
      go({ [key()]: `${number || /^n_/.test(name) ? "-" : ""}${name}` });
    });
    byId("turn").addEventListener("click", () => {
      const asked = state[key()] || (key() === "csort" ? "-n_pairs" : "rank");
      go({ [key()]: asked.startsWith("-") ? asked.slice(1) : `-${asked}` });
    });
    byId("skip").addEventListener("click", (event) => { event.preventDefault(); byId("grid").focus(); });
    grid.host = byId("grid");
    grid.host.addEventListener("keydown", (event) => grid.key(event));
    let due = false;
    grid.host.addEventListener("scroll", () => {
      grid.top = grid.host.scrollTop;
      if (due) return;
      due = true;
      requestAnimationFrame(() => { due = false; grid.draw(); });
    }, { passive: true });
    addEventListener("resize", () => {
      grid.seen = 0;
      if (!byId("list").hidden) draw();
    });
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const typing = event.target.closest("input, select, textarea");
      if (event.key === "/" && !typing) {
        event.preventDefault();
        if (state.a) go({ a: "", b: "", at: "" });
        byId("list").hidden = false;
        byId("q").focus();
        byId("q").select();
      } else if (event.key === "Escape" && state.a) location.hash = link(inList({}));
      else if (event.key === "Escape" && typing) { if (state.q) go({ q: "" }, { typed: true }); else byId("grid").focus(); }
      else if (!typing && opened >= 0 && !event.target.closest(".scroll, pre") && (event.key === "ArrowLeft" || event.key === "ArrowRight")) {
        document.querySelector(`.walk [rel=${event.key === "ArrowLeft" ? "previous" : "next"}]`)?.click();
      }
    });
  };
  const start = () => {
    byId("list").dataset.title = document.title;
    const missing = meta ? meta.first.filter((name) => !columns.has(name)).map((name) => `columns/${name}.js`) : ["meta.js"];
    if (missing.length) {
      trouble(new Error(`${missing.join(", ")} cannot be loaded. The folder must be complete, and a served explorer still running.`));
      return;
    }
    countPairs();
    gather();
    listen();
    state = read();
    draw();
    performance.mark("drawn");
    // the columns that no view has asked for yet come while nobody waits
    const idle = window.requestIdleCallback ?? ((work) => setTimeout(work, 200));
    const rest = [...Object.keys(meta.columns), "reading", "detail"].filter((name) => !columns.has(name));
    const next = () => { const name = rest.shift(); if (name) need([name]).then(() => idle(next), trouble); else needReadouts().catch(trouble); };
    idle(next);
  };
  document.addEventListener("DOMContentLoaded", start);
  return given;
})();
