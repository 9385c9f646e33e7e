// The worker, and questions to it.

// Uses an instruction for vectors, which not every browser has.
const VECTORS = Uint8Array.of(0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11);

// What a browser lacks to run the kernels of the page, "" if nothing.
export function lacking() {
  if (typeof WebAssembly !== "object") return "no WebAssembly";
  if (!WebAssembly.validate(VECTORS)) return "a WebAssembly without vectors";
  if (typeof DecompressionStream !== "function") return "nothing to unpack its kernels with (DecompressionStream)";
  if (typeof Object.hasOwn !== "function" || typeof [].at !== "function") return "a JavaScript older than 2022 (Object.hasOwn, Array.at)";
  return "";
}

// Bytes of the kernels, which the page holds as base64 of what zlib has packed.
export async function unpacked(base64) {
  const packed = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

export class Assistant {
  constructor(source) {
    const place = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    this.worker = new Worker(place);
    this.waiting = new Map(), this.count = 0;
    this.worker.onmessage = ({ data: { id, answer, error } }) => {
      const { resolve, reject } = this.waiting.get(id);
      this.waiting.delete(id);
      if (error === undefined) resolve(answer);
      else reject(new Error(error));
    };
    this.worker.onerror = (event) => {
      for (const { reject } of this.waiting.values()) reject(new Error(event.message));
      this.waiting.clear();
    };
  }

  ask(what, question = {}) {
    return new Promise((resolve, reject) => {
      const id = ++this.count;
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage({ id, ask: what, ...question });
    });
  }
}
