// The page: takes a picture in, asks the server, shows its answer.

import { frameOf, prepare } from "./pictures.js";
import { Server, ServerError, curlCommand, usable } from "./server.js";

const at = (id) => document.getElementById(id);
const server = new Server();
let picture = null; // what is shown: {name, blob, base64, width, height, note}
let running = null; // AbortController of the requests under way
let resume = null; // what waits for a token

async function start() {
  at("model").disabled = true;
  await guarded(start, async () => {
    const models = await server.models();
    if (models.length === 0) throw new ServerError(404, "The server has no models.");
    at("model").replaceChildren(
      ...models.map(({ name, available }) => new Option(available ? name : `${name} (not available)`, name)),
    );
    const first = models.findIndex((model) => model.available);
    at("model").selectedIndex = Math.max(0, first);
    at("model").disabled = false;
    if (picture) await name();
  });
}

/** Takes a file as the picture, and asks about it. */
async function take(file) {
  await guarded(() => take(file), async () => {
    const prepared = await prepare(file);
    picture = { name: file.name || "picture.png", ...prepared };
    show();
    if (!at("model").disabled) await name();
  });
}

function show() {
  const image = at("shown");
  URL.revokeObjectURL(image.src);
  image.src = URL.createObjectURL(picture.blob);
  image.alt = `The chosen picture: ${picture.name}`;
  image.hidden = false;
  at("invitation").hidden = true;
  at("drop").classList.add("filled");
  at("columns").classList.remove("empty");
  at("choose").textContent = "Choose another";
  const size = picture.width ? ` · ${picture.width}\u00a0×\u00a0${picture.height}` : "";
  at("picture-facts").textContent = `${picture.name} · ${kilobytes(picture.blob.size)}${size}`;
  if (picture.note) at("picture-facts").textContent += `. ${picture.note}`;
}

/** Asks the chosen model for the picture's names, then for its saliency where it has that signature. */
async function name() {
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  const model = at("model").value;
  const asked = picture;
  at("names").classList.add("waiting");
  at("spoken").textContent = "Asking the server.";
  at("saliency").hidden = true;
  at("curl").hidden = true;
  await guarded(name, async () => {
    const found = usable(await server.signatures(model));
    signal.throwIfAborted();
    if (found.naming === null) {
      throw new ServerError(0, `Model ${model} has no signature that takes a picture and gives classes and scores.`);
    }
    showCommand(model, found.naming, asked);
    const began = performance.now();
    const { classes, scores } = await server.predict(model, found.naming, asked.base64, signal);
    showNames(classes, scores, performance.now() - began);
    if (found.saliency !== null) await showSaliency(model, found.saliency, asked, signal);
  });
}

function showNames(classes, scores, milliseconds) {
  const rows = classes.map((label, row) => nameRow(label, scores[row]));
  at("names").replaceChildren(...rows.map(({ item }) => item));
  at("names").classList.remove("waiting");
  at("timing").textContent = `${Math.round(milliseconds)} ms to the server and back`;
  at("spoken").textContent = `${classes[0]}, ${percent(scores[0])}. Answered in ${Math.round(milliseconds)} milliseconds.`;
  at("names").getBoundingClientRect(); // laid out once with empty bars, which then grow
  for (const { bar, share } of rows) bar.style.width = `${100 * share}%`;
}

function nameRow(label, score) {
  const line = element("div", "line", element("span", "name", label), element("span", "share", percent(score)));
  const bar = element("div", "bar");
  const track = element("div", "track", bar);
  track.setAttribute("aria-hidden", "true");
  return { item: element("li", "", line, track), bar, share: Math.min(1, Math.max(0, score)) };
}

async function showSaliency(model, signature, asked, signal) {
  at("overlay").removeAttribute("src");
  at("overlay-caption").textContent = "Asking which pixels count…";
  at("saliency").hidden = false;
  try {
    const { overlay_bytes: overlay } = await server.predict(model, signature, asked.base64, signal);
    at("overlay").src = `data:image/png;base64,${overlay.b64}`;
    at("overlay-caption").textContent = "The pixels that the best name hangs on";
  } catch (error) {
    if (!signal.aborted) at("saliency").hidden = true;
    throw error;
  }
}

function showCommand(model, signature, asked) {
  at("command").textContent = curlCommand(document.baseURI, model, signature, asked.name, server.token !== "");
  at("curl-note").textContent = asked.note
    ? "It sends the file as it is on disk, not as the browser changed it."
    : server.token && "Put the API token into the variable TOKEN first.";
  at("copied").textContent = "";
  at("curl").hidden = false;
}

/** Runs one piece of work and shows what went wrong; asks for a token when the server wants one. */
async function guarded(again, work) {
  at("error").hidden = true;
  try {
    await work();
  } catch (error) {
    if (error.name === "AbortError") return;
    at("names").replaceChildren();
    at("names").classList.remove("waiting");
    at("timing").textContent = "";
    at("spoken").textContent = "";
    if (error.status === 401) {
      askForToken(again);
    } else {
      at("error").textContent = error.message;
      at("error").hidden = false;
      if (!(error instanceof ServerError)) console.error(error);
    }
  }
}

function askForToken(again) {
  if (server.token) {
    at("error").textContent = "The server does not accept this API token.";
    at("error").hidden = false;
  }
  resume = again;
  at("token-form").hidden = false;
  at("token").focus();
}

async function openCamera() {
  if (!navigator.mediaDevices?.getUserMedia) {
    at("capture").click(); // without a secure connection only the phone's own camera program is left
    return;
  }
  await guarded(openCamera, async () => {
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    } catch {
      throw new ServerError(0, "The camera cannot be used: there is none, or this page may not use it.");
    }
    at("video").srcObject = stream;
    at("viewfinder").showModal();
    at("viewfinder").addEventListener("close", () => stream.getTracks().forEach((track) => track.stop()), { once: true });
    await at("video").play();
  });
}

async function shoot() {
  const file = await frameOf(at("video"));
  at("viewfinder").close();
  await take(file);
}

async function copy() {
  try {
    await navigator.clipboard.writeText(at("command").textContent);
    at("copied").textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(at("command")); // without a secure connection there is no clipboard
    at("copied").textContent = "Selected: copy it with the keyboard";
  }
}

function element(tag, className, ...children) {
  const made = document.createElement(tag);
  made.className = className;
  made.append(...children);
  return made;
}

function percent(share) {
  return share > 0 && share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`;
}

function kilobytes(bytes) {
  return bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

function pictureIn(transfer) {
  return [...(transfer?.files ?? [])][0];
}

function listen() {
  for (const input of [at("file"), at("capture")]) {
    input.addEventListener("change", () => {
      const [file] = input.files;
      input.value = ""; // the same file may be chosen again
      if (file) take(file);
    });
  }
  at("choose").addEventListener("click", () => at("file").click());
  at("camera").addEventListener("click", openCamera);
  at("shoot").addEventListener("click", shoot);
  at("cancel").addEventListener("click", () => at("viewfinder").close());
  at("copy").addEventListener("click", copy);
  at("model").addEventListener("change", () => picture && name());
  at("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    server.token = at("token").value.trim();
    at("token-form").hidden = true;
    resume?.();
  });
  addEventListener("paste", (event) => {
    const file = pictureIn(event.clipboardData);
    if (file) take(file);
  });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    addEventListener(kind, (event) => {
      event.preventDefault();
      at("drop").classList.toggle("over", kind === "dragover");
      const file = kind === "drop" && pictureIn(event.dataTransfer);
      if (file) take(file);
    });
  }
  const touch = matchMedia("(pointer: coarse)").matches;
  at("camera").hidden = !(navigator.mediaDevices?.getUserMedia || touch);
}

listen();
start();
