// The server's REST interface, and the same request as a command.

/** A refusal or a missing answer; `status` is HTTP's, 0 when there was no answer. */
export class ServerError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export class Server {
  token = "";

  /** [{name, available}], `available` when some version of the model can answer. */
  async models() {
    const said = await this.#ask("models");
    return said.models.map((model) => ({
      name: model.name,
      available: model.model_version_status.some((version) => version.state === "AVAILABLE"),
    }));
  }

  /** {signature: {inputs, outputs}} as TF Serving's metadata has them. */
  async signatures(model) {
    const said = await this.#ask(`${pathOf(model)}/metadata`);
    return said.metadata.signature_def.signature_def;
  }

  /** The outputs for one picture: {name: value}. */
  async predict(model, signature, base64, signal) {
    const body = JSON.stringify(bodyOf(signature, base64));
    const said = await this.#ask(`${pathOf(model)}:predict`, { method: "POST", body, signal });
    return said.predictions[0];
  }

  async #ask(path, options = {}) {
    const headers = { "Content-Type": "application/json" };
    if (this.token) headers.Authorization = `Bearer ${this.token}`;
    let response;
    let text;
    try {
      response = await fetch(path, { ...options, headers });
      text = await response.text();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ServerError(0, "The server does not answer.");
    }
    let said = null;
    try {
      said = JSON.parse(text);
    } catch {
      // Its status says enough.
    }
    if (!response.ok || said === null) {
      throw new ServerError(response.status, said?.error ?? `The server answered HTTP ${response.status} without JSON.`);
    }
    return said;
  }
}

/**
 * Which signatures this page can use: {naming, saliency}, each a name or null.
 *
 * `naming` takes one string and gives classes and scores; serving_default comes first. A signature made for
 * the Classify call takes tf.Examples, no pictures.
 */
export function usable(signatures) {
  const takesPicture = (one) => {
    const inputs = Object.values(one.inputs ?? {});
    const classify = one.method_name === "tensorflow/serving/classify";
    return inputs.length === 1 && inputs[0].dtype === "DT_STRING" && !classify;
  };
  const names = Object.keys(signatures).filter((name) => takesPicture(signatures[name]));
  const gives = (name, ...outputs) => outputs.every((output) => output in signatures[name].outputs);
  const naming = names.filter((name) => gives(name, "classes", "scores")).sort();
  return {
    naming: naming.find((name) => name === "serving_default") ?? naming[0] ?? null,
    saliency: names.find((name) => name === "saliency" && gives(name, "overlay_bytes")) ?? null,
  };
}

/** A command for a POSIX shell that sends a file as this page does, of any size. */
export function curlCommand(address, model, signature, fileName, withToken) {
  const [before, after] = JSON.stringify(bodyOf(signature, "\n")).split("\\n");
  const token = withToken ? ` -H "Authorization: Bearer $TOKEN"` : "";
  return [
    `{ printf %s ${quoted(before)}`,
    `  base64 < ${quoted(fileName)} | tr -d '\\n'`,
    `  printf %s ${quoted(after)}`,
    `} | curl${token} --data-binary @- \\`,
    `  ${quoted(new URL(`${pathOf(model)}:predict`, address).href)}`,
  ].join("\n");
}

function bodyOf(signature, base64) {
  return { signature_name: signature, instances: [{ b64: base64 }] };
}

function pathOf(model) {
  return `v1/models/${encodeURIComponent(model)}`;
}

function quoted(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
