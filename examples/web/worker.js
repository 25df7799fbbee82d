// Depth and rendering, off the page's thread: two exported graphs in ONNX Runtime Web.
//
//   {task: "load", backend}                     -> {backend, threads, focus, focusRange, model, licence}
//   {task: "depth", image}                      -> {disparity}
//   {task: "render", image, disparity, blur, focus, range} -> {image}
//
// `image` is ImageData: 8-bit display-encoded RGBA. `disparity` is a Float32Array (height x width), 1 = nearest.

const RUNTIME = new URL("node_modules/onnxruntime-web/dist/", import.meta.url);
const MODELS = new URL("models/", import.meta.url);

let ort, depth, render;

// The GPU where the browser has a real one, else WebAssembly. Several threads only where the page is cross-origin
// isolated: static servers without special headers get one thread, and that works too.
async function load({ backend }) {
  const adapter = backend === "wasm" ? null : await navigator.gpu?.requestAdapter();
  const gpu = adapter && (backend === "webgpu" || !adapter.info?.isFallbackAdapter);
  if (backend === "webgpu" && !gpu) throw new Error("this browser offers no WebGPU");
  ort = await import(new URL(gpu ? "ort.webgpu.min.mjs" : "ort.wasm.min.mjs", RUNTIME));
  ort.env.wasm.wasmPaths = RUNTIME.href;
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(8, navigator.hardwareConcurrency) : 1;
  const options = { executionProviders: [gpu ? "webgpu" : "wasm"] };
  const [depthFile, renderFile] = [await read("depth.onnx"), await read("render.onnx")];
  depth = await ort.InferenceSession.create(depthFile, options);
  render = await ort.InferenceSession.create(renderFile, options);
  return {
    backend: gpu ? "WebGPU" : "WebAssembly",
    threads: ort.env.wasm.numThreads,
    focus: Number(metadata(depthFile, "argan.focus") ?? 0.5),
    focusRange: Number(metadata(depthFile, "argan.focus_range") ?? 0),
    model: metadata(depthFile, "argan.model"),
    licence: metadata(depthFile, "argan.licence"),
  };
}

async function read(name) {
  const answer = await fetch(new URL(name, MODELS));
  if (!answer.ok) throw new Error(`models/${name} is missing: argan export --format onnx --output examples/web/models`);
  return new Uint8Array(await answer.arrayBuffer());
}

// An entry of an ONNX file's metadata, which ONNX Runtime Web does not hand out: in the file, a key is followed by
// 0x12, the length of the value (a varint) and the value.
function metadata(file, key) {
  const wanted = [key.length, ...new TextEncoder().encode(key), 0x12];
  for (let at = file.length - wanted.length; at >= 0; at--) {
    if (!wanted.every((byte, i) => file[at + i] === byte)) continue;
    let [position, length, shift] = [at + wanted.length, 0, 0];
    do {
      length |= (file[position] & 0x7f) << shift;
      shift += 7;
    } while (file[position++] & 0x80);
    return new TextDecoder().decode(file.subarray(position, position + length));
  }
  return undefined;
}

async function estimate({ image }) {
  const outputs = await depth.run({ [depth.inputNames[0]]: toTensor(image) });
  return { disparity: new Float32Array(outputs[depth.outputNames[0]].data) };
}

async function blurred({ image, disparity, blur, focus, range }) {
  const { width, height } = image;
  // The graph has a plane alone in focus: what else is sharp is moved onto it, and the rest with its ends.
  const [low, high] = [focus - range / 2, focus + range / 2];
  const moved = disparity.map((d) => d + (focus - Math.min(Math.max(d, low), high)));
  const values = [
    toTensor(image),
    new ort.Tensor("float32", moved, [1, 1, height, width]),
    new ort.Tensor("float32", [blur], [1]),
    new ort.Tensor("float32", [focus], [1]),
  ];
  const feeds = Object.fromEntries(render.inputNames.map((name, index) => [name, values[index]]));
  const outputs = await render.run(feeds);
  return { image: toImage(outputs[render.outputNames[0]].data, image) };
}

function toTensor({ data, width, height }) {
  const count = width * height;
  const planes = new Float32Array(3 * count);
  for (let channel = 0; channel < 3; channel++) {
    for (let i = 0; i < count; i++) planes[channel * count + i] = data[4 * i + channel] / 255;
  }
  return new ort.Tensor("float32", planes, [1, 3, height, width]);
}

// Planes in [0, 1] as ImageData, rounded to the nearest, with the alpha that the image had.
function toImage(planes, { data, width, height }) {
  const count = width * height;
  const pixels = new Uint8ClampedArray(data);
  for (let channel = 0; channel < 3; channel++) {
    for (let i = 0; i < count; i++) pixels[4 * i + channel] = Math.floor(planes[channel * count + i] * 255 + 0.5);
  }
  return new ImageData(pixels, width, height);
}

const TASKS = { load, depth: estimate, render: blurred };

self.onmessage = async ({ data: { id, task, ...values } }) => {
  try {
    self.postMessage({ id, result: await TASKS[task](values) });
  } catch (error) {
    self.postMessage({ id, error: error.message ?? String(error) });
  }
};
