// The page: a photo in, a click to focus, a slider for blur, a divider between before and after.
//
// ?photo=URL opens a photo, ?backend=wasm|webgpu chooses where it runs.

const DRAFT = 480; // px, the long side that is rendered at once, while you play
const PREVIEW = 1200; // px, the long side that is rendered when you pause
const PAUSE = 400; // ms
const LARGEST = 4000; // px, the long side that is saved: a browser's memory ends somewhere
const MOST = 6e6; // pixels that WebAssembly renders at once: they take 0.55 kB each, of the 4 GB that it can address
const OF_A_PHOTO = ["auto", "show-depth", "save"]; // what needs one, with its depth
const POINT = 0.02; // side of the square whose median is the focus, in fractions of the long side

const $ = (id) => document.getElementById(id);
const parameters = new URLSearchParams(location.search);

// The worker, as functions that return promises.
const worker = new Worker("worker.js", { type: "module" });
const waiting = new Map();
let asked = 0;
worker.onmessage = ({ data: { id, result, error } }) => {
  const { resolve, reject } = waiting.get(id);
  waiting.delete(id);
  error === undefined ? resolve(result) : reject(new Error(error));
};
const ask = (task, values = {}) =>
  new Promise((resolve, reject) => {
    waiting.set(++asked, { resolve, reject });
    worker.postMessage({ id: asked, task, ...values });
  });

const state = { bitmap: null, name: "photo", image: null, disparity: null, focus: null };
const ready = ask("load", { backend: parameters.get("backend") ?? "auto" });
let place = "";
let most = MOST;
let learnedFocus = 0.5;
let range = 0; // about any focus, in disparity: what the model has learned to see sharp

ready.then(({ backend, threads, focus, focusRange, model, licence }) => {
  learnedFocus = focus;
  range = focusRange;
  $("model").textContent = `depth by the model ${model} (${licence}) · `;
  most = backend === "WebGPU" ? Infinity : MOST;
  place = backend === "WebGPU" ? backend : `${backend}, ${threads} thread${threads > 1 ? "s" : ""}`;
  say(`Ready: ${place}.`);
}, fail);

// Opening

async function open(blob, name) {
  try {
    busy(true);
    for (const id of OF_A_PHOTO) $(id).disabled = true;
    const bitmap = await createImageBitmap(blob, { imageOrientation: "from-image" });
    Object.assign(state, { bitmap, name: name.replace(/\.[^.]*$/, ""), image: pixels(bitmap, PREVIEW), disparity: null });
    show("before", state.image);
    show("after", state.image);
    $("stage").classList.add("loaded");
    await ready;
    say("Estimating depth…");
    const start = performance.now();
    const { disparity } = await ask("depth", { image: state.image });
    if (state.bitmap !== bitmap) return; // another photo has been opened since
    state.disparity = disparity;
    showDepth();
    say(`Depth: ${seconds(start)} (${place}).`);
    for (const id of OF_A_PHOTO) $(id).disabled = false;
    focusAt(null);
  } catch (error) {
    fail(error);
  }
}

// A bitmap's pixels, no larger than `longest` on its long side, and no more than `count`.
function pixels(bitmap, longest, count = Infinity) {
  const { width, height } = bitmap;
  const scale = Math.min(1, longest / Math.max(width, height), Math.sqrt(count / (width * height)));
  const canvas = new OffscreenCanvas(Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale)));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

// Focus: at a point of the picture, in fractions, or on the plane that the model has learned.

function focusAt(point) {
  state.focus = point ? median(point) : learnedFocus;
  $("reticle").hidden = !point;
  if (point) Object.assign($("reticle").style, { left: `${point.x * 100}%`, top: `${point.y * 100}%` });
  update();
}

// Median disparity in a small square around a point.
function median({ x, y }) {
  const { width, height } = state.image;
  const reach = Math.floor((POINT / 2) * Math.max(width, height));
  const column = Math.min(Math.floor(x * width), width - 1);
  const row = Math.min(Math.floor(y * height), height - 1);
  const values = [];
  for (let r = Math.max(0, row - reach); r <= Math.min(height - 1, row + reach); r++) {
    for (let c = Math.max(0, column - reach); c <= Math.min(width - 1, column + reach); c++) {
      values.push(state.disparity[r * width + c]);
    }
  }
  return Float32Array.from(values).sort()[(values.length - 1) >> 1];
}

// Rendering: one at a time, always the latest wish; a draft first, and the preview when no new wish comes.

let running = false;
let wishes = 0; // counted, so that it is known whether a new one came
async function update() {
  $("blur-value").value = `${Number($("blur").value).toFixed(1)} %`;
  if (!state.disparity) return;
  wishes++;
  if (running) return;
  running = true;
  busy(true);
  try {
    for (let done = 0; state.disparity && done < wishes; ) {
      done = wishes;
      const whole = { image: state.image, disparity: state.disparity };
      const draft = smaller(whole);
      if (draft) {
        await renderAt(draft);
        await new Promise((resolve) => setTimeout(resolve, PAUSE));
      }
      if (done === wishes) await renderAt(whole);
    }
  } catch (error) {
    fail(error);
  } finally {
    running = false;
    busy(false);
  }
}

async function renderAt({ image, disparity }) {
  const start = performance.now();
  const { bitmap, focus } = state;
  const result = await ask("render", { image, disparity, blur: Number($("blur").value), focus, range });
  if (state.bitmap !== bitmap) return;
  show("after", result.image);
  say(`${image.width} x ${image.height} rendered in ${seconds(start)} (${place}). Click the photo to focus.`);
}

// A picture and its disparity at DRAFT px; undefined where they are that small.
function smaller({ image, disparity }) {
  const { width, height } = image;
  if (Math.max(width, height) <= DRAFT) return undefined;
  const small = pixels(state.bitmap, DRAFT);
  const picked = new Float32Array(small.width * small.height);
  for (let y = 0; y < small.height; y++) {
    const row = Math.floor(((y + 0.5) / small.height) * height) * width;
    for (let x = 0; x < small.width; x++) {
      picked[y * small.width + x] = disparity[row + Math.floor(((x + 0.5) / small.width) * width)];
    }
  }
  return { image: small, disparity: picked };
}

async function save() {
  try {
    busy(true);
    say("Rendering at full size…");
    const start = performance.now();
    const { bitmap, name, focus } = state; // another photo may be opened meanwhile
    const blur = Number($("blur").value);
    const image = pixels(bitmap, LARGEST, most);
    const { disparity } = await ask("depth", { image });
    const result = await ask("render", { image, disparity, blur, focus, range });
    const canvas = new OffscreenCanvas(image.width, image.height);
    canvas.getContext("2d").putImageData(result.image, 0, 0);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await canvas.convertToBlob({ type: "image/jpeg", quality: 0.95 }));
    link.download = `${name}.bokeh.jpg`;
    link.click();
    URL.revokeObjectURL(link.href);
    say(`${image.width} x ${image.height} saved in ${seconds(start)}.`);
  } catch (error) {
    fail(error);
  } finally {
    busy(false);
  }
}

// What is seen

function show(id, image) {
  const canvas = $(id);
  Object.assign(canvas, { width: image.width, height: image.height });
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function showDepth() {
  const { width, height } = state.image;
  const view = new ImageData(width, height);
  state.disparity.forEach((d, i) => view.data.set([255 * d, 255 * d, 255 * d, 255], 4 * i));
  show("depth", view);
}

function split(percent) {
  $("stage").style.setProperty("--split", `${percent}%`);
  $("compare").value = percent;
  for (const element of [$("divider"), ...document.querySelectorAll(".tag")]) element.hidden = percent <= 0;
}

function busy(on) {
  $("busy").hidden = !on;
}

function say(text) {
  $("status").textContent = text;
  $("status").classList.remove("error");
}

function fail(error) {
  busy(false);
  say(error.message);
  $("status").classList.add("error");
}

function seconds(start) {
  return `${((performance.now() - start) / 1000).toFixed(2)} s`;
}

// What is done

const stage = $("stage");
const fraction = (event) => {
  const box = $("before").getBoundingClientRect();
  return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
};

stage.addEventListener("click", (event) => {
  if (state.disparity && event.target.tagName === "CANVAS") focusAt(fraction(event));
});
$("divider").addEventListener("pointerdown", (event) => $("divider").setPointerCapture(event.pointerId));
$("divider").addEventListener("pointermove", (event) => {
  if (event.buttons) split(100 * Math.min(1, Math.max(0.001, fraction(event).x)));
});
stage.addEventListener("dragover", (event) => {
  event.preventDefault();
  stage.classList.add("dragging");
});
stage.addEventListener("dragleave", () => stage.classList.remove("dragging"));
stage.addEventListener("drop", (event) => {
  event.preventDefault();
  stage.classList.remove("dragging");
  const [file] = event.dataTransfer.files;
  if (file) open(file, file.name);
});
$("file").addEventListener("change", ({ target: { files } }) => files[0] && open(files[0], files[0].name));
$("open").addEventListener("click", () => $("file").click());
$("example").addEventListener("click", () => openUrl("../photo.jpg").catch(fail));
$("blur").addEventListener("input", update);
$("compare").addEventListener("input", (event) => split(Number(event.target.value)));
$("auto").addEventListener("click", () => focusAt(null));
$("save").addEventListener("click", save);
$("show-depth").addEventListener("click", () => {
  $("depth").hidden = !$("depth").hidden;
  $("show-depth").setAttribute("aria-pressed", String(!$("depth").hidden));
});
$("controls").addEventListener("submit", (event) => event.preventDefault());

async function openUrl(url) {
  const answer = await fetch(url);
  if (!answer.ok) return fail(new Error(`${url}: ${answer.status} ${answer.statusText}`));
  await open(await answer.blob(), url.split("/").pop());
}

if (parameters.has("photo")) openUrl(parameters.get("photo")).catch(fail);
