// kernels/math.inl: elementary functions on sixteen lanes; included inside an instruction set's
// namespace.

// e^x for finite x, relative error below 2e-7: e^x = 2^n * e^r with |r| <= ln(2) / 2, and a
// polynomial of degree 6 for e^r (Cody and Waite, 1980). Inputs are clamped to the float range.
static inline F f_exp(const F& x) {
    const F clamped = f_min(f_max(x, f_set(-87.0F)), f_set(88.0F));
    const I n = i_round(f_mul(clamped, f_set(1.44269504F)));
    const F whole = f_from_i(n);
    F r = f_fma(whole, f_set(-0.693359375F), clamped);
    r = f_fma(whole, f_set(2.12194440e-4F), r);
    F p = f_set(1.3888889e-3F);
    p = f_fma(p, r, f_set(8.3333333e-3F));
    p = f_fma(p, r, f_set(4.16666667e-2F));
    p = f_fma(p, r, f_set(1.66666667e-1F));
    p = f_fma(p, r, f_set(0.5F));
    p = f_fma(p, r, f_set(1.0F));
    p = f_fma(p, r, f_set(1.0F));
    return f_mul(p, f_power_of_two(n));
}

static inline F f_activate(const F& x, int activation) {
    F inner = x;
    if (activation == 2) {
        // gelu(x) = x * sigmoid(2 t) with t = sqrt(2 / pi) * (x + 0.044715 x^3)
        const F cube = f_mul(f_mul(x, x), x);
        inner = f_mul(f_set(1.59576912F), f_fma(cube, f_set(0.044715F), x));
    }
    return f_div(x, f_add(f_set(1.0F), f_exp(f_sub(f_zero(), inner))));
}
