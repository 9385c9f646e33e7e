// The same in Python: ten lines of hdnn.

const CALLS = { "swiss-roll": "swiss_roll", "double-moons": "double_moons", "double-circles": "double_circles" };
const NOISE = { "double-moons": 0.15, "double-circles": 0.3 };

const vector = (values) => `[${values.join(", ")}]`;

function data({ problem, points, noise, seed }) {
  const named = CALLS[problem];
  if (named && (NOISE[problem] ?? 0) === noise) return [`x, y = hdnn.data.${named}(${points}, seed=${seed})`];
  if (named && problem in NOISE) return [`x, y = hdnn.data.${named}(${points}, seed=${seed}, noise=${noise})`];
  if (named) return [`x, y = hdnn.data.${named}(${points}, seed=${seed})`, `x = x + np.random.default_rng(${seed}).uniform(-${noise}, ${noise}, x.shape)`];
  const draw = `r = np.random.default_rng(${seed})`;
  if (problem === "spirals")
    return [draw, `y = r.integers(0, 2, ${points}); s = r.random(${points}); angle = np.pi * (1.5 * s + y)`,
      `x = ((0.1 + 1.1 * s) * [np.cos(angle), np.sin(angle)]).T + r.uniform(-${noise}, ${noise}, (${points}, 2))`];
  if (problem === "checkerboard")
    return [draw, `x = r.uniform(-1, 1, (${points}, 2)); y = (np.floor(2 * (x + 1)).sum(1) % 2).astype(int)`,
      `x = x + r.uniform(-${noise}, ${noise}, x.shape)`];
  return [`points = np.loadtxt("points.csv", delimiter=",")  # x, y, class: “Save the points” writes it`, "x, y = points[:, :2], points[:, 2].astype(int)"];
}

export function python(settings, epochs) {
  const { model, features, layers, horizon, activation, shared, rate, batch, smoothness, headDecay, seed, std, J, ownJ, damping } = settings;
  const options = [`horizon=${horizon}`];
  if (J === "J2") options.push('interconnection="upper_ones"');
  if (J === "own") options.push("interconnection=hdnn.Fixed(J - J.T)");
  if (activation !== "tanh") options.push(`activation="${activation}"`);
  if (shared) options.push("shared=True");
  if (damping) options.push(`damping=${damping}`);
  if (std) options.push(`init_std=${std}`);
  const recipe = [`epochs=${Math.max(1, Math.round(epochs))}`, `batch_size=${batch}`, `learning_rate=${rate}`, 'schedule="constant"'];
  if (smoothness) recipe.push(`smoothness=${smoothness}`);
  if (headDecay) recipe.push(`head_decay=${headDecay}`);
  const [a, b, c, d, e, f] = ownJ;
  return [
    "import numpy as np, torch, hdnn",
    ...data(settings),
    "x, y = torch.tensor(x, dtype=torch.float32), torch.tensor(y)",
    "middle = len(x) // 2",
    `torch.manual_seed(${seed})`,
    ...(J === "own" ? [`J = torch.tensor([${vector([0, a, b, c])}, ${vector([0, 0, d, e])}, ${vector([0, 0, 0, f])}, [0, 0, 0, 0.0]])`] : []),
    `flow = hdnn.${model}(${features}, layers=${layers}, ${options.join(", ")})`,
    "network = hdnn.vector_classifier(2, 2, flow)",
    `recipe = hdnn.Recipe(${recipe.join(", ")})`,
    "hdnn.fit(network, x[:middle], y[:middle], recipe)",
    'print("test accuracy", (network.predict(x[middle:]) == y[middle:]).float().mean())',
    "M = hdnn.analysis.sensitivities(flow, network.lift(x[:6]))  # ∂y_N/∂y_j for j = 0 … N",
    "print(torch.linalg.matrix_norm(M, 2).mean(1))",
  ].join("\n");
}
