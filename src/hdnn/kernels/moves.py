"""What the programs of the Triton backend are made of: activations, and moves of a block of samples.

They are written in Triton's language, which looks like Python and is compiled for the device on first use. Products are
sums over tiles (units, features, samples): one thread has one sample where n is small, and float32 and float64 are
computed alike, without tensor cores.

Legend: a program has S samples at a time; a tile of states is (F, S), F the power of two above n or n/2; units of a
layer come U at a time; K (m, n), b (m,), W = K Jᵀ (m, n); u = K y + b, z = σ(u); g the gradient of the states. A *move*
is y ← y + c Wᵀ z of the whole state or of one half: it reads `source` and moves `target`. How a move drives, DRIVE, is
"identity" (W = I), "same" (W = ±K, a half by the other), "turned" (W = K Jᵀ of the canonical J) or "matrix" (W given).
"""

# mypy: ignore-errors
from __future__ import annotations

try:
    import triton.language as tl
    from triton import jit
except ImportError:  # the backend says so, and calls nothing of this file

    def jit(function=None, **_):
        """Nothing is compiled without Triton."""
        return function or jit


# Activations --------------------------------------------------------------------------------------------------------


@jit
def tanh(u):
    """u + u³ P(u²) where |u| is small (Cephes), else 1 − 2 / (e^2|u| + 1); ±1 from |u| = 20 on.

    In float64 the small ones are one rational function, of which the quotient serves both.
    """
    if u.dtype == tl.float32:
        size = tl.abs(u)
        size = tl.where(size > 20.0, 20.0, size)  # NaN stays
        x = u * u
        top = (-5.70498872745e-3 * x + 2.06390887954e-2) * x - 5.37397155531e-2
        top = (top * x + 1.33314422036e-1) * x - 3.33332819422e-1
        far = 1.0 - 2.0 / (tl.exp(2.0 * size) + 1.0)
        found = tl.where(size < 0.625, u + u * (x * top), tl.where(u < 0.0, -far, far))
    else:
        found = _tanh_of_double(u)
    return found


@jit
def _tanh_of_double(u):
    size = tl.abs(u)
    size = tl.where(size > 20.0, 20.0, size)  # NaN stays
    power = tl.exp(2.0 * size)
    x = u * u
    top = (-9.64399179425052238628e-1 * x - 9.92877231001918586564e1) * x - 1.61468768441708447952e3
    low = ((x + 1.12811678491632931402e2) * x + 2.23548839060100448583e3) * x + 4.84406305325125486048e3
    small = size < 0.625
    numerator = tl.where(small, low + x * top, power - 1.0)
    denominator = tl.where(small, low, power + 1.0)
    found = numerator / denominator
    return tl.where(small, u * found, tl.where(u < 0.0, -found, found))


@jit
def sigmoid(u):
    """1 / (1 + e⁻ᵘ)."""
    return 1.0 / (1.0 + tl.exp(-u))


@jit
def softplus(u):
    """log(1 + eᵘ), where e^−|u| is not lost beside 1."""
    power = tl.exp(-tl.abs(u))
    one = 1.0 + power
    rest = one - 1.0
    small = rest == 0.0
    log = tl.where(small, power, tl.log(one) * (power / tl.where(small, 1.0, rest)))
    return tl.where(u < 0.0, 0.0, u) + log


@jit
def value(u, slope, ACTIVATION: tl.constexpr):
    """σ(u); what is no number stays none."""
    if ACTIVATION == "tanh":
        z = tanh(u)
    elif ACTIVATION == "sigmoid":
        z = sigmoid(u)
    elif ACTIVATION == "softplus":
        z = softplus(u)
    elif ACTIVATION == "relu":
        z = tl.where(u <= 0.0, 0.0, u)
    elif ACTIVATION == "leaky_relu":
        z = tl.where(u <= 0.0, slope * u, u)
    else:
        z = u
    return z


@jit
def steepness(u, z, slope, ACTIVATION: tl.constexpr):
    """σ′(u), of u and z = σ(u)."""
    if ACTIVATION == "tanh":
        d = 1.0 - z * z
    elif ACTIVATION == "sigmoid":
        d = z * (1.0 - z)
    elif ACTIVATION == "softplus":
        d = sigmoid(u)
    elif ACTIVATION == "relu":
        d = tl.where(u <= 0.0, 0.0, 1.0).to(u.dtype)
    elif ACTIVATION == "leaky_relu":
        d = tl.where(u <= 0.0, slope, 1.0).to(u.dtype)
    else:
        d = tl.full(u.shape, 1.0, u.dtype)
    return d


# Moves --------------------------------------------------------------------------------------------------------------


@jit
def tile(place, rows, columns, live, n):
    """A tile (units, features, 1) of a matrix of n columns; zeros where it has ended."""
    return tl.load(place + rows[:, None, None] * n + columns[None, :, None], mask=live[:, :, None], other=0.0)


@jit
def drive(K, W, k, rows, feature, from_column, live, n, sign, DRIVE: tl.constexpr):
    """The tile of W that belongs to a tile K, whose units are k, in rows of the whole matrix."""
    if DRIVE == "same":
        found = sign * K
    elif DRIVE == "identity":
        found = tl.where(k[:, None, None] == feature[None, :, None], 1.0, 0.0).to(K.dtype)
    elif DRIVE == "turned":
        half = n // 2
        other = tl.where(feature < half, feature + half, feature - half)
        found = tile(W, rows, other, live, n)
        found = tl.where(feature[None, :, None] < half, found, -found)
    else:
        found = tile(W, rows, from_column + feature, live, n)
    return found


@jit
def potential(source, K, bias, rows, row_live, b_unit, b_row, samples, DRIVEN: tl.constexpr):
    """u = K y + b, (U, S)."""
    u = tl.sum(K * source[None, :, :], axis=1)
    if DRIVEN:
        at = rows[:, None] * b_unit + samples[None, :] * b_row
        b = tl.load(bias + at, mask=row_live[:, None], other=0.0)
    else:
        b = tl.load(bias + rows * b_unit, mask=row_live, other=0.0)[:, None]
    return u + b


@jit
def moved(
    source, target, c, slope, sign, weight, bias, W, first, count, from_column, to_column, size, n, b_unit, b_row,
    samples,
    DRIVE: tl.constexpr, ACTIVATION: tl.constexpr, DRIVEN: tl.constexpr, F: tl.constexpr, U: tl.constexpr,
):  # fmt: skip
    """The target after a move: units first … first + count, of which K has its numbers from a column on, and W too."""
    feature = tl.arange(0, F)
    field = tl.zeros_like(target)
    for start in range(0, count, U):
        k = start + tl.arange(0, U)
        rows, row_live = first + k, k < count
        live = row_live[:, None] & (feature < size)[None, :]
        K = tile(weight, rows, from_column + feature, live, n)
        z = value(potential(source, K, bias, rows, row_live, b_unit, b_row, samples, DRIVEN), slope, ACTIVATION)
        to = drive(K, W, k, rows, feature, to_column, live, n, sign, DRIVE)
        field += tl.sum(to * z[:, None, :], axis=0)
    return target + c * field


@jit
def add(place, x, mask, ADD: tl.constexpr):
    """Write, or add to what this program wrote before."""
    if ADD:
        x += tl.load(place, mask=mask, other=0.0)
    tl.store(place, x, mask=mask)


@jit
def pulled(
    source, g, c, slope, sign, weight, bias, W, first, count, from_column, to_column, size, n, b_unit, b_row,
    to_weight, to_bias, to_W, to_b_unit, to_b_row, samples, sample_live,
    DRIVE: tl.constexpr, ACTIVATION: tl.constexpr, DRIVEN: tl.constexpr, WEIGHTS: tl.constexpr, ADD: tl.constexpr,
    F: tl.constexpr, U: tl.constexpr,
):  # fmt: skip
    """What a move adds to the gradient of its source, g being that of its target; gradients of numbers are written."""
    feature = tl.arange(0, F)
    back = tl.zeros_like(g)
    for start in range(0, count, U):
        k = start + tl.arange(0, U)
        rows, row_live = first + k, k < count
        live = row_live[:, None] & (feature < size)[None, :]
        K = tile(weight, rows, from_column + feature, live, n)
        u = potential(source, K, bias, rows, row_live, b_unit, b_row, samples, DRIVEN)
        z = value(u, slope, ACTIVATION)
        to = drive(K, W, k, rows, feature, to_column, live, n, sign, DRIVE)
        at_u = c * tl.sum(to * g[None, :, :], axis=1) * steepness(u, z, slope, ACTIVATION)
        back += tl.sum(K * at_u[:, None, :], axis=0)
        if WEIGHTS:
            at_K = tl.sum(at_u[:, None, :] * source[None, :, :], axis=2)
            if DRIVE == "same":
                at_K += (c * sign) * tl.sum(z[:, None, :] * g[None, :, :], axis=2)
            at = rows[:, None] * n + feature[None, :]
            add(to_weight + from_column + at, at_K, live, ADD)
            if DRIVE == "turned" or DRIVE == "matrix":
                at_W = c * tl.sum(z[:, None, :] * g[None, :, :], axis=2)
                add(to_W + to_column + at, at_W, live, ADD)
            if DRIVEN:
                place = to_bias + rows[:, None] * to_b_unit + samples[None, :] * to_b_row
                add(place, at_u, row_live[:, None] & sample_live[None, :], ADD)
            else:
                add(to_bias + rows, tl.sum(at_u, axis=1), row_live, ADD)
    return back
