// Six short lessons: each sets the page up and says what to look at. `look` names views.
export const LESSONS = [
  {
    title: "1 Why gradients vanish",
    settings: { problem: "double-moons", noise: 0.15, model: "h2", layers: 64, horizon: 6.4, beside: ["perceptron"], rate: 0.02 },
    look: ["gradients", "loss"],
    text: ["A perceptron replaces its state in every layer, and every layer of the usual start shrinks small changes a little. After 64 layers nothing is left: before the first layer the gradient is smaller by twenty powers of ten, so the first layers never learn what to do, and the loss stays at log 2, a guess."],
    steps: ["Press play.", "Look at the left end of “Gradients”: the perceptron’s line has fallen by twenty powers of ten, that of the flow stays near 1.", "Then set Layers to 8, and to 4: how deep may a perceptron be?"],
  },
  {
    title: "2 Marginal stability",
    settings: { problem: "swiss-roll", model: "ms2", layers: 32, horizon: 3.2, beside: ["resnet"], rate: 0.02 },
    look: ["spectrum", "jacobians"],
    text: ["A field whose changes die out forgets its input; one whose changes grow explodes. In between lie fields that only turn: all eigenvalues of their Jacobian are imaginary. A skew K, or a skew J, forces that, for whatever weights training finds."],
    steps: ["Press play, and watch the eigenvalues: those of the flow stay on the vertical axis, those of the ResNet wander off.", "Move the slider of “State after each layer” to see other layers.", "Choose h1 or h2 as the model: the same."],
  },
  {
    title: "3 J and energy",
    settings: { problem: "double-moons", noise: 0.15, model: "h2", layers: 64, horizon: 6.4, shared: true, beside: ["resnet"], rate: 0.01 },
    look: ["energy", "singular"],
    text: ["With one K and b for all layers there is one energy H(y). Its flow goes along J ∂H/∂y: since J is skew, that is always along a contour line of H. Steps of symplectic Euler keep close to it, and keep M J Mᵀ = J to the last digit: singular values come in pairs s and 1/s, so the largest is never below 1."],
    steps: ["Press play: H stays almost level along the depth.", "Look at the rings in “Singular values”: every point sits in one.", "Choose h1: forward Euler drifts, and the pairs fall apart a little. Raise the horizon to make it worse.", "Back to h2, and Damping to 0.2: the energy goes, singular values pair up around e^(−γT/2), and the bound under “Sensitivities” sinks towards the first layer: the network forgets, at a rate that you know."],
  },
  {
    title: "4 Depth for free",
    settings: { problem: "swiss-roll", model: "h1", layers: 64, horizon: 2.5, beside: [], rate: 0.02 },
    look: ["plane", "course"],
    text: ["The horizon T = N h says how far the flow goes, the layers N say in how many steps. At the same T more layers cost time, but they do not make training harder: 64 layers learn the Swiss roll in a second or two, 4 layers do not get as far."],
    steps: ["Press play, and then Walk to follow the points through the layers.", "Set Layers to 4, and to 256: what changes, and what does not?"],
  },
  {
    title: "5 When they explode",
    settings: { problem: "double-circles", noise: 0.3, model: "h1", layers: 64, horizon: 64, std: 1, beside: [], rate: 0.05 },
    look: ["jacobians", "loss"],
    text: ["The bound 1 holds from below only, and nothing stops a long flow with large weights from stretching: then gradients explode, and the loss jumps or becomes no number at all. What helps: a shorter horizon T, smaller weights, a smaller rate."],
    steps: ["Before you press play, look at the sensitivities: a small change of the input arrives a thousand times as large.", "Press play: the loss jumps about, and hardly falls.", "Set Horizon to 3.2, Start std to 0 and the rate to 0.02: sensitivities of moderate size, and training is calm.", "Or leave all that and set the model to h2: the pairs s, 1/s are exact, and the large s are still large."],
  },
  {
    title: "6 What a fair comparison is",
    settings: { problem: "double-moons", noise: 0.15, model: "h2", layers: 64, horizon: 6.4, beside: ["perceptron", "perceptron-orthogonal", "resnet", "resnet-1"], rate: 0.002 },
    look: ["jacobians", "accuracy"],
    text: ["A perceptron of 64 layers with the usual start is an easy one to beat. Started with orthogonal matrices it learns something too, and a ResNet learns as well as the flow; with the step T/N it is a flow without J. What a Hamiltonian network adds is a promise: the sensitivity ‖∂y_N/∂y_j‖ cannot fall below 1, whatever the weights become. The others begin well and may lose it: watch the orthogonal perceptron."],
    steps: ["Press play: the table says which of them learn.", "Watch the sensitivities: which lines fall below the bound as weights move?", "Raise the layers to 256, or the rate to 0.02: who still learns?", "No single run decides: change the seed."],
  },
];
