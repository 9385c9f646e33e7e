"""The programs of the Triton backend: blocks of samples go through all layers, forward or backward, in registers.

Every program has S samples of one flow; programs of a flow follow each other. Gradients of weights are sums over the
samples of a program, and `total` adds those of all programs up in a fixed order: the same
numbers give the same bits.

Legend: as in `moves`; p and q the halves of a state, a and b their gradients.
"""

# mypy: ignore-errors
from __future__ import annotations

from functools import partial

from hdnn.kernels.moves import jit, moved, pulled

try:
    import triton.language as tl
except ImportError:  # the backend says so
    tl = None

# Sizes that differ from call to call: nothing is compiled anew for some of them.
kernel = partial(
    jit,
    do_not_specialize=(
        "rows", "pixels", "layers", "segment", "segments", "programs", "n", "m", "p_first", "p_count", "q_first",
        "q_count", "y_flow", "y_row", "y_feature", "g_flow", "g_layer", "g_row", "g_feature", "out_flow", "out_layer",
        "out_row", "out_feature", "weight_flow", "weight_layer", "b_flow", "b_layer", "b_row", "b_unit", "W_flow",
        "W_layer", "to_flow", "to_program", "to_weight_layer", "to_b_flow", "to_b_program", "to_b_layer", "to_b_row",
        "to_b_unit", "to_W_layer", "size", "weights", "biases", "matrices",
    ),
)  # fmt: skip


@jit
def exact(first, second, third, DTYPE: tl.constexpr):
    """A number that came in three parts of float32."""
    return tl.cast(first, DTYPE) + (tl.cast(second, DTYPE) + tl.cast(third, DTYPE))


@jit
def places(samples, pixels, row, feature, from_feature, size, F: tl.constexpr, IMAGES: tl.constexpr):
    """Where features of samples stand, (F, S), and which of them there are; pixels lie one after the other."""
    f = tl.arange(0, F)
    at = samples // pixels * row + samples % pixels if IMAGES else samples * row
    return at[None, :] + (from_feature + f)[:, None] * feature, (f < size)[:, None]


@kernel()
def whole(
    y, out, weight, bias, W, h0, h1, h2, s0, s1, s2, rows, pixels, programs,
    layers, n, m, y_flow, y_row, y_feature, out_flow,
    out_layer, out_row, out_feature, weight_flow, weight_layer, b_flow, b_layer, b_row, b_unit, W_flow, W_layer,
    DRIVE: tl.constexpr, ACTIVATION: tl.constexpr, DRIVEN: tl.constexpr, STATES: tl.constexpr, IMAGES: tl.constexpr,
    F: tl.constexpr, U: tl.constexpr, S: tl.constexpr,
):  # fmt: skip
    """y⁺ = y + h Wᵀ σ(K y + b) through all layers."""
    flow = tl.program_id(0).to(tl.int64) // programs
    samples = tl.program_id(0).to(tl.int64) % programs * S + tl.arange(0, S)
    live = (samples < rows * pixels)[None, :]
    samples = tl.minimum(samples, rows * pixels - 1)  # idle lanes repeat the last sample, so that none overflows alone
    at, features = places(samples, pixels, y_row, y_feature, 0, n, F, IMAGES)
    x = tl.load(y + flow * y_flow + at, mask=features, other=0.0)
    h, slope = exact(h0, h1, h2, x.dtype), exact(s0, s1, s2, x.dtype)
    at, features = places(samples, pixels, out_row, out_feature, 0, n, F, IMAGES)
    out += flow * out_flow + at
    if STATES:
        tl.store(out, x, mask=features & live)
    for j in range(layers):
        x = moved(
            x, x, h, slope, 1.0, weight + flow * weight_flow + j * weight_layer, bias + flow * b_flow + j * b_layer,
            W + flow * W_flow + j * W_layer, 0, m, 0, 0, n, n, b_unit, b_row, samples,
            DRIVE, ACTIVATION, DRIVEN, F, U,
        )  # fmt: skip
        if STATES:
            out += out_layer
            tl.store(out, x, mask=features & live)
    if not STATES:
        tl.store(out, x, mask=features & live)


@kernel()
def whole_back(
    y, g, out, weight, bias, W, to_weight, to_bias, to_W, scratch, h0, h1, h2, s0, s1, s2, rows, pixels, programs,
    layers,
    segment, segments, n, m, y_flow, y_row, y_feature, g_flow, g_layer, g_row, g_feature, out_flow, out_row,
    out_feature, weight_flow, weight_layer, b_flow, b_layer, b_row, b_unit, W_flow, W_layer, to_flow, to_program,
    to_weight_layer, to_b_flow, to_b_program, to_b_layer, to_b_row, to_b_unit, to_W_layer,
    DRIVE: tl.constexpr, ACTIVATION: tl.constexpr, DRIVEN: tl.constexpr, STATES: tl.constexpr, IMAGES: tl.constexpr,
    WEIGHTS: tl.constexpr, ADD: tl.constexpr, F: tl.constexpr, U: tl.constexpr, S: tl.constexpr,
):  # fmt: skip
    """Gradients of `whole`: states at the ends of segments are kept, those within one computed again."""
    flow, program = tl.program_id(0).to(tl.int64) // programs, tl.program_id(0).to(tl.int64) % programs
    f = tl.arange(0, F)
    scratch += (flow * programs + program) * (segments + segment) * (F * S) + f[:, None] * S + tl.arange(0, S)[None, :]
    inside = scratch + segments * (F * S)
    weight += flow * weight_flow
    bias += flow * b_flow
    W += flow * W_flow
    to_weight += flow * to_flow + program * to_program
    to_W += flow * to_flow + program * to_program
    to_bias += flow * to_b_flow + program * to_b_program
    for block in range(program, tl.cdiv(rows * pixels, S), programs):
        samples = block * S + tl.arange(0, S)
        sample_live = samples < rows * pixels
        live = sample_live[None, :]
        samples = tl.minimum(samples, rows * pixels - 1)
        at, features = places(samples, pixels, y_row, y_feature, 0, n, F, IMAGES)
        x = tl.load(y + flow * y_flow + at, mask=features, other=0.0)
        h, slope = exact(h0, h1, h2, x.dtype), exact(s0, s1, s2, x.dtype)
        for i in range(segments):
            tl.store(scratch + i * (F * S), x)
            for j in range(i * segment, tl.minimum((i + 1) * segment, (segments - 1) * segment)):
                x = moved(
                    x, x, h, slope, 1.0, weight + j * weight_layer, bias + j * b_layer, W + j * W_layer, 0, m, 0, 0, n,
                    n, b_unit, b_row, samples, DRIVE, ACTIVATION, DRIVEN, F, U,
                )  # fmt: skip
        at, features = places(samples, pixels, g_row, g_feature, 0, n, F, IMAGES)
        at += flow * g_flow
        last = layers * g_layer if STATES else g_layer * 0
        a = tl.load(g + last + at, mask=features & live, other=0.0)
        for back in range(segments):
            i = segments - 1 - back
            tl.debug_barrier()
            x = tl.load(scratch + i * (F * S))
            end = tl.minimum((i + 1) * segment, layers)
            for j in range(i * segment, end):
                tl.store(inside + (j - i * segment) * (F * S), x)
                x = moved(
                    x, x, h, slope, 1.0, weight + j * weight_layer, bias + j * b_layer, W + j * W_layer, 0, m, 0, 0, n,
                    n, b_unit, b_row, samples, DRIVE, ACTIVATION, DRIVEN, F, U,
                )  # fmt: skip
            for past in range(end - i * segment):
                j = end - 1 - past
                tl.debug_barrier()
                x = tl.load(inside + (j - i * segment) * (F * S))
                a += pulled(
                    x, a, h, slope, 1.0, weight + j * weight_layer, bias + j * b_layer, W + j * W_layer, 0, m, 0, 0, n,
                    n, b_unit, b_row, to_weight + j * to_weight_layer, to_bias + j * to_b_layer, to_W + j * to_W_layer,
                    to_b_unit, to_b_row, samples, sample_live,
                    DRIVE, ACTIVATION, DRIVEN, WEIGHTS, ADD, F, U,
                )  # fmt: skip
                if STATES:
                    a += tl.load(g + j * g_layer + at, mask=features & live, other=0.0)
        at, features = places(samples, pixels, out_row, out_feature, 0, n, F, IMAGES)
        tl.store(out + flow * out_flow + at, a, mask=features & live)
        tl.debug_barrier()


@jit
def layer(
    p, q, d, h, slope, weight, bias, W, kept, p_first, p_count, q_first, q_count, half, n, b_unit, b_row, samples,
    DRIVE: tl.constexpr, ACTIVATION: tl.constexpr, DRIVEN: tl.constexpr, FIRST_P: tl.constexpr,
    FRACTIONS: tl.constexpr, MOVES: tl.constexpr, DAMPED: tl.constexpr, LEARNED: tl.constexpr,
    KEEP: tl.constexpr, F: tl.constexpr, U: tl.constexpr, S: tl.constexpr,
):  # fmt: skip
    """The halves after the moves of one layer; what each move reads is kept, and the damped p."""
    if DAMPED:
        p = p * d
        if KEEP and LEARNED:
            tl.store(kept + MOVES * (F * S), p)
    for i in tl.static_range(MOVES):
        if (i % 2 == 0) == FIRST_P:
            if KEEP:
                tl.store(kept + i * (F * S), q)
            p = moved(
                q, p, h * FRACTIONS[i], slope, 1.0, weight, bias, W, p_first, p_count, half, 0, half, n, b_unit, b_row,
                samples, DRIVE, ACTIVATION, DRIVEN, F, U,
            )  # fmt: skip
        else:
            if KEEP:
                tl.store(kept + i * (F * S), p)
            q = moved(
                p, q, h * FRACTIONS[i], slope, -1.0, weight, bias, W, q_first, q_count, 0, half, half, n, b_unit,
                b_row, samples, DRIVE, ACTIVATION, DRIVEN, F, U,
            )  # fmt: skip
    return p, q


@kernel()
def halves(
    y, out, weight, bias, W, h0, h1, h2, s0, s1, s2, d0, d1, d2, rate, rows, pixels, programs,
    layers, p_first, p_count, q_first,
    q_count, n, y_flow, y_row, y_feature, out_flow, out_layer, out_row, out_feature, weight_flow, weight_layer, b_flow,
    b_layer, b_row, b_unit, W_flow, W_layer,
    DRIVE: tl.constexpr, ACTIVATION: tl.constexpr, DRIVEN: tl.constexpr, STATES: tl.constexpr, IMAGES: tl.constexpr,
    FIRST_P: tl.constexpr, FRACTIONS: tl.constexpr, MOVES: tl.constexpr, DAMPED: tl.constexpr, LEARNED: tl.constexpr,
    F: tl.constexpr, U: tl.constexpr, S: tl.constexpr,
):  # fmt: skip
    """The halves of the state in turn, through all layers."""
    flow, half = tl.program_id(0).to(tl.int64) // programs, n // 2
    samples = tl.program_id(0).to(tl.int64) % programs * S + tl.arange(0, S)
    live = (samples < rows * pixels)[None, :]
    samples = tl.minimum(samples, rows * pixels - 1)
    at, features = places(samples, pixels, y_row, y_feature, 0, half, F, IMAGES)
    p = tl.load(y + flow * y_flow + at, mask=features, other=0.0)
    q = tl.load(y + flow * y_flow + at + half * y_feature, mask=features, other=0.0)
    h, slope, d = exact(h0, h1, h2, p.dtype), exact(s0, s1, s2, p.dtype), exact(d0, d1, d2, p.dtype)
    if LEARNED:
        root = tl.load(rate + flow * b_flow)
        d = tl.exp(-h * (root * root))
    at, features = places(samples, pixels, out_row, out_feature, 0, half, F, IMAGES)
    out += flow * out_flow + at
    if STATES:
        tl.store(out, p, mask=features & live)
        tl.store(out + half * out_feature, q, mask=features & live)
    for j in range(layers):
        p, q = layer(
            p, q, d, h, slope, weight + flow * weight_flow + j * weight_layer, bias + flow * b_flow + j * b_layer,
            W + flow * W_flow + j * W_layer, out, p_first, p_count, q_first, q_count, half, n, b_unit, b_row, samples,
            DRIVE, ACTIVATION, DRIVEN, FIRST_P, FRACTIONS, MOVES, DAMPED, LEARNED, False, F, U, S,
        )  # fmt: skip
        if STATES:
            out += out_layer
            tl.store(out, p, mask=features & live)
            tl.store(out + half * out_feature, q, mask=features & live)
    if not STATES:
        tl.store(out, p, mask=features & live)
        tl.store(out + half * out_feature, q, mask=features & live)


@jit
def layer_back(
    a, b, damping, d, h, slope, weight, bias, W, kept, to_weight, to_bias, to_W, p_first, p_count, q_first, q_count,
    half, n, b_unit, b_row, to_b_unit, to_b_row, samples, sample_live,
    DRIVE: tl.constexpr, ACTIVATION: tl.constexpr, DRIVEN: tl.constexpr, FIRST_P: tl.constexpr,
    FRACTIONS: tl.constexpr, MOVES: tl.constexpr, DAMPED: tl.constexpr, LEARNED: tl.constexpr, WEIGHTS: tl.constexpr,
    ADD: tl.constexpr, F: tl.constexpr, U: tl.constexpr, S: tl.constexpr,
):  # fmt: skip
    """Gradients a of p and b of q before the moves, of those after; and ⟨a, p⟩, by which damping is learned."""
    for i in tl.static_range(MOVES - 1, -1, -1):
        if MOVES > 2:
            tl.debug_barrier()
        source = tl.load(kept + i * (F * S))
        if (i % 2 == 0) == FIRST_P:
            b += pulled(
                source, a, h * FRACTIONS[i], slope, 1.0, weight, bias, W, p_first, p_count, half, 0, half, n, b_unit,
                b_row, to_weight, to_bias, to_W, to_b_unit, to_b_row, samples, sample_live,
                DRIVE, ACTIVATION, DRIVEN, WEIGHTS, ADD, F, U,
            )  # fmt: skip
        else:
            a += pulled(
                source, b, h * FRACTIONS[i], slope, -1.0, weight, bias, W, q_first, q_count, 0, half, half, n, b_unit,
                b_row, to_weight, to_bias, to_W, to_b_unit, to_b_row, samples, sample_live,
                DRIVE, ACTIVATION, DRIVEN, WEIGHTS, ADD, F, U,
            )  # fmt: skip
    if LEARNED:
        damping += tl.sum(a * tl.load(kept + MOVES * (F * S)), axis=0)
    if DAMPED:
        a = a * d
    return a, b, damping


@kernel()
def halves_back(
    y, g, out, weight, bias, W, to_weight, to_bias, to_W, scratch, h0, h1, h2, s0, s1, s2, d0, d1, d2, rate, to_rate,
    rows, pixels, programs,
    layers, segment, segments, p_first, p_count, q_first, q_count, n, y_flow, y_row, y_feature, g_flow,
    g_layer, g_row, g_feature, out_flow, out_row, out_feature, weight_flow, weight_layer, b_flow, b_layer, b_row,
    b_unit, W_flow, W_layer, to_flow, to_program, to_weight_layer, to_b_flow, to_b_program, to_b_layer, to_b_row,
    to_b_unit, to_W_layer,
    DRIVE: tl.constexpr, ACTIVATION: tl.constexpr, DRIVEN: tl.constexpr, STATES: tl.constexpr, IMAGES: tl.constexpr,
    WEIGHTS: tl.constexpr, ADD: tl.constexpr, FIRST_P: tl.constexpr, FRACTIONS: tl.constexpr, MOVES: tl.constexpr,
    DAMPED: tl.constexpr, LEARNED: tl.constexpr, F: tl.constexpr, U: tl.constexpr, S: tl.constexpr,
):  # fmt: skip
    """Gradients of `halves`, as in `whole_back`; within a segment what every move reads is kept."""
    flow, program = tl.program_id(0).to(tl.int64) // programs, tl.program_id(0).to(tl.int64) % programs
    half, f = n // 2, tl.arange(0, F)
    slots: tl.constexpr = MOVES + 1 if LEARNED else MOVES
    scratch += (flow * programs + program) * (2 * segments + slots * segment) * (F * S)
    scratch += f[:, None] * S + tl.arange(0, S)[None, :]
    inside = scratch + 2 * segments * (F * S)
    weight += flow * weight_flow
    bias += flow * b_flow
    W += flow * W_flow
    to_weight += flow * to_flow + program * to_program
    to_W += flow * to_flow + program * to_program
    to_bias += flow * to_b_flow + program * to_b_program
    for block in range(program, tl.cdiv(rows * pixels, S), programs):
        samples = block * S + tl.arange(0, S)
        sample_live = samples < rows * pixels
        live = sample_live[None, :]
        samples = tl.minimum(samples, rows * pixels - 1)
        at, features = places(samples, pixels, y_row, y_feature, 0, half, F, IMAGES)
        p = tl.load(y + flow * y_flow + at, mask=features, other=0.0)
        q = tl.load(y + flow * y_flow + at + half * y_feature, mask=features, other=0.0)
        h, slope, d = exact(h0, h1, h2, p.dtype), exact(s0, s1, s2, p.dtype), exact(d0, d1, d2, p.dtype)
        if LEARNED:
            root = tl.load(rate + flow * b_flow)
            d = tl.exp(-h * (root * root))
        for i in range(segments):
            tl.store(scratch + 2 * i * (F * S), p)
            tl.store(scratch + (2 * i + 1) * (F * S), q)
            for j in range(i * segment, tl.minimum((i + 1) * segment, (segments - 1) * segment)):
                p, q = layer(
                    p, q, d, h, slope, weight + j * weight_layer, bias + j * b_layer, W + j * W_layer, inside,
                    p_first, p_count, q_first, q_count, half, n, b_unit, b_row, samples,
                    DRIVE, ACTIVATION, DRIVEN, FIRST_P, FRACTIONS, MOVES, DAMPED, LEARNED, False, F, U, S,
                )  # fmt: skip
        at, features = places(samples, pixels, g_row, g_feature, 0, half, F, IMAGES)
        at += flow * g_flow
        last = layers * g_layer if STATES else g_layer * 0
        a = tl.load(g + last + at, mask=features & live, other=0.0)
        b = tl.load(g + last + at + half * g_feature, mask=features & live, other=0.0)
        damping = tl.sum(a, axis=0) * 0.0
        for back in range(segments):
            i = segments - 1 - back
            tl.debug_barrier()
            p = tl.load(scratch + 2 * i * (F * S))
            q = tl.load(scratch + (2 * i + 1) * (F * S))
            end = tl.minimum((i + 1) * segment, layers)
            for j in range(i * segment, end):
                p, q = layer(
                    p, q, d, h, slope, weight + j * weight_layer, bias + j * b_layer, W + j * W_layer,
                    inside + (j - i * segment) * (slots * F * S), p_first, p_count, q_first, q_count, half, n, b_unit,
                    b_row, samples,
                    DRIVE, ACTIVATION, DRIVEN, FIRST_P, FRACTIONS, MOVES, DAMPED, LEARNED, True, F, U, S,
                )  # fmt: skip
            for past in range(end - i * segment):
                j = end - 1 - past
                tl.debug_barrier()
                a, b, damping = layer_back(
                    a, b, damping, d, h, slope, weight + j * weight_layer, bias + j * b_layer, W + j * W_layer,
                    inside + (j - i * segment) * (slots * F * S), to_weight + j * to_weight_layer,
                    to_bias + j * to_b_layer, to_W + j * to_W_layer, p_first, p_count, q_first, q_count, half, n,
                    b_unit, b_row, to_b_unit, to_b_row, samples, sample_live,
                    DRIVE, ACTIVATION, DRIVEN, FIRST_P, FRACTIONS, MOVES, DAMPED, LEARNED, WEIGHTS, ADD, F, U, S,
                )  # fmt: skip
                if STATES:
                    a += tl.load(g + j * g_layer + at, mask=features & live, other=0.0)
                    b += tl.load(g + j * g_layer + at + half * g_feature, mask=features & live, other=0.0)
        at, features = places(samples, pixels, out_row, out_feature, 0, half, F, IMAGES)
        out_at = out + flow * out_flow + at
        tl.store(out_at, a, mask=features & live)
        tl.store(out_at + half * out_feature, b, mask=features & live)
        if LEARNED and WEIGHTS:
            place = to_rate + flow * to_flow + program * to_program
            total = tl.load(place) - 2.0 * h * root * tl.sum(damping)
            tl.store(place, total)
        tl.debug_barrier()


@kernel()
def total(
    parts, to_weight, to_bias, to_W, programs, size, weights, biases, matrices, n,
    FOLD: tl.constexpr, R: tl.constexpr, E: tl.constexpr,
):  # fmt: skip
    """Sums over the programs of a flow, in a fixed order; those of W = K Jᵀ, J canonical, belong to K."""
    blocks = tl.cdiv(weights + biases + matrices, E)
    flow = tl.program_id(0).to(tl.int64) // blocks
    e = tl.program_id(0).to(tl.int64) % blocks * E + tl.arange(0, E)
    r = tl.arange(0, R).to(tl.int64)[:, None]
    parts += flow * programs * size
    found = tl.zeros([E], parts.dtype.element_ty)
    live = (e < weights + biases + matrices)[None, :]
    half = n // 2
    left = e % n < half
    other = weights + biases + tl.where(left, e + half, e - half)
    for i in range(0, programs, R):
        of = parts + (i + r) * size
        found += tl.sum(tl.load(of + e[None, :], mask=(i + r < programs) & live, other=0.0), axis=0)
        if FOLD:
            turned = tl.load(of + other[None, :], mask=(i + r < programs) & (e < weights)[None, :], other=0.0)
            turned = tl.sum(turned, axis=0)
            found += tl.where(left, -turned, turned)
    tl.store(to_weight + flow * weights + e, found, mask=e < weights)
    e -= weights
    tl.store(to_bias + flow * biases + e, found, mask=(e >= 0) & (e < biases))
    e -= biases
    tl.store(to_W + flow * matrices + e, found, mask=(e >= 0) & (e < matrices))
