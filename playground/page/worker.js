// Works beside the page: it answers what the page asks, one question after the other.
import { Kernels } from "./kernels.js";
import { Laboratory } from "./laboratory.js";
import { course, energies, norms, spectrum } from "./measures.js";
import { begin, describe } from "./models.js";

let kernels = null, laboratory = null;

const ANSWERS = {
  // bytes of the compiled kernels
  async start({ bytes }) {
    kernels = await Kernels.from(bytes);
    laboratory = new Laboratory(kernels);
  },
  set: ({ settings, given }) => laboratory.set(settings, given),
  change: ({ settings }) => laboratory.change(settings),
  // Some steps, and what is to be seen after them.
  tick({ steps, budget, wants }) {
    const losses = steps ? laboratory.learn(steps, budget ? performance.now() + budget : Infinity) : {};
    return { ...laboratory.picture(wants), losses };
  },
  parameters: () => laboratory.parameters(),
  // Of a network and data that are brought, for comparison with others: an epoch in a given order, or a run both ways.
  epoch({ network, parameters, x, y, order, batch, rate, smoothness, headDecay }) {
    const net = kernels.network(describe(network), parameters);
    const blocks = [kernels.floats(x.length).set(x), kernels.wholes(y.length).set(y), kernels.wholes(order.length).set(order)];
    const losses = net.learn({ x: blocks[0], classes: blocks[1], order: blocks[2], batch, rate, smoothness, headDecay });
    const found = { losses, parameters: net.parameters.view.slice() };
    net.free(), blocks.forEach((block) => block.free());
    return found;
  },
  gradients({ network, parameters, y, g, rows }) {
    const net = kernels.network(describe(network), parameters), found = net.gradients(y, g, rows);
    net.free();
    return found;
  },
  // All that is measured of a network at points x (2 each) of classes y.
  measures({ network, parameters, x, y, layer }) {
    const net = kernels.network(describe(network), parameters), n = network.features, points = y.length;
    const { gradient, jacobian, singular } = norms(net, x, y, points, points), states = course(net, x, points);
    const here = Float64Array.from(states.subarray(layer * points * n, (layer + 1) * points * n));
    const found = { gradient, jacobian, singular: singular.flatMap((values) => [...values]), states,
      spectrum: spectrum(net, layer, here, points), energy: network.shared ? energies(net, states, points) : [] };
    net.free();
    return found;
  },
  beginning: ({ network, seed, options }) => ({ parameters: begin(describe(network), seed, options) }),
};

export function serve() {
  self.onmessage = async ({ data: { id, ask, ...question } }) => {
    try {
      const answer = await ANSWERS[ask](question);
      postMessage({ id, answer });
    } catch (error) {
      postMessage({ id, error: error instanceof WebAssembly.RuntimeError ? "The kernels ran out of memory. Choose fewer layers, features or points." : error.message });
    }
  };
}
