// A chosen file as the model takes it: JPEG, PNG, GIF, BMP or WebP, upright, in base64.

const READABLE = ["image/jpeg", "image/png", "image/gif", "image/bmp", "image/webp"];
const ANIMATED = 0x02; // a flag of extended WebP: the model reads stills
const ORIENTATION = 0x0112;
const QUALITY = 0.95;

/**
 * Reads a file; what the model cannot read, or would see lying on its side, the browser draws anew.
 *
 * Returns {blob, base64, width, height, note}; `note` says what was changed, or is empty.
 * Throws an Error with words for the reader when the browser cannot decode it either.
 */
export async function prepare(file) {
  const kind = kindOf(new Uint8Array(await file.slice(0, 32).arrayBuffer()));
  const turned = kind === "image/jpeg" && (await orientation(file)) > 1;
  let bitmap = null;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    // What the browser cannot show, the model may still read: it decides.
  }
  if (READABLE.includes(kind) && !turned) {
    return described(file, bitmap, "");
  }
  if (bitmap === null) {
    throw new Error(`${file.name || "This file"} is no picture that this browser can read.`);
  }
  const jpeg = await drawn(bitmap);
  const note = turned
    ? "The browser turned it upright first: the camera had only noted which side is up."
    : "The browser turned it into a JPEG first: the model reads JPEG, PNG, GIF, BMP and still WebP.";
  return described(jpeg, bitmap, note);
}

/** The current picture of a video as a JPEG file. */
export async function frameOf(video) {
  const bitmap = await createImageBitmap(video);
  const blob = await drawn(bitmap);
  return new File([blob], "photograph.jpg", { type: "image/jpeg" });
}

async function described(blob, bitmap, note) {
  return {
    blob,
    base64: await toBase64(blob),
    width: bitmap ? bitmap.width : 0,
    height: bitmap ? bitmap.height : 0,
    note,
  };
}

async function drawn(bitmap) {
  const canvas = document.createElement("canvas");
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff"; // JPEG knows no transparency
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", QUALITY));
}

function toBase64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new Error("The file cannot be read."));
    reader.readAsDataURL(blob);
  });
}

/** The media type by the first bytes: names and declared types are often wrong. */
export function kindOf(bytes) {
  const starts = (...values) => values.every((value, at) => bytes[at] === value);
  if (starts(0xff, 0xd8, 0xff)) return "image/jpeg";
  if (starts(0x89, 0x50, 0x4e, 0x47)) return "image/png";
  if (starts(0x47, 0x49, 0x46, 0x38)) return "image/gif";
  if (starts(0x42, 0x4d)) return "image/bmp";
  const word = (at) => String.fromCharCode(...bytes.subarray(at, at + 4));
  if (word(0) === "RIFF" && word(8) === "WEBP" && !(word(12) === "VP8X" && bytes[20] & ANIMATED)) return "image/webp";
  return "";
}

/** EXIF's orientation of a JPEG, 1 to 8; 1 (upright) when it has none. */
async function orientation(file) {
  const view = new DataView(await file.slice(0, 128 * 1024).arrayBuffer());
  try {
    for (let at = 2; view.getUint8(at) === 0xff && view.getUint8(at + 1) !== 0xda; at += 2 + view.getUint16(at + 2)) {
      if (view.getUint8(at + 1) === 0xe1 && view.getUint32(at + 4) === 0x45786966) {
        return exifOrientation(view, at + 10);
      }
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // cut short: as good as none
  }
  return 1;
}

function exifOrientation(view, start) {
  const little = view.getUint16(start) === 0x4949;
  const directory = start + view.getUint32(start + 4, little);
  const entries = view.getUint16(directory, little);
  for (let entry = 0; entry < entries; entry++) {
    const at = directory + 2 + 12 * entry;
    if (view.getUint16(at, little) === ORIENTATION) return view.getUint16(at + 8, little);
  }
  return 1;
}
