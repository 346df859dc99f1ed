#!/usr/bin/env python3
"""Checks torch.ops.mneme.flash_attention from Python: values, gradients, shapes, errors.

Usage: mneme_ops_test.py LIBMNEME_OPS.so     Exit status 77 (skipped, with the reason) where torch cannot be imported.
"""
import sys

try:
    import torch
except Exception as reason:  # the loader's errors are of many kinds
    print(f"skipped: this Python cannot import torch: {reason}")
    sys.exit(77)


def dense(q, k, v, scale, mask):
    """Attention over [B, S, H, D] by its definition."""
    group = q.shape[2] // k.shape[2]
    k, v = (x.repeat_interleave(group, 2) for x in (k, v))
    scores = torch.einsum("bihd,bjhd->bhij", q, k) * scale
    weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)
    return torch.einsum("bhij,bjhd->bihd", weights, v)


def main():
    torch.ops.load_library(sys.argv[1])
    attention = torch.ops.mneme.flash_attention
    torch.manual_seed(0)
    q = torch.randn(2, 37, 6, 20, dtype=torch.float64, requires_grad=True)
    k = torch.randn(2, 50, 2, 20, dtype=torch.float64, requires_grad=True)
    v = torch.randn(2, 50, 2, 20, dtype=torch.float64, requires_grad=True)
    mask = torch.ones(37, 50, dtype=torch.bool).tril(13)
    o, lse = attention(q, k, v, causal=True)
    want = dense(q, k, v, 20 ** -0.5, mask)
    torch.testing.assert_close(o, want)
    assert lse.shape == (2, 6, 37) and not lse.requires_grad
    dout = torch.randn_like(o)
    for got, expected in zip(torch.autograd.grad(o, (q, k, v), dout), torch.autograd.grad(want, (q, k, v), dout)):
        torch.testing.assert_close(got, expected)
    small = [torch.randn(1, 5, 2, 3, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    assert torch.autograd.gradcheck(lambda *x: attention(*x, softcap=2.0, dropout_p=0.3, seed=4)[0], small)
    shapes = attention(*(torch.empty(1, 5, 4, 3, device="meta") for _ in range(3)))
    assert shapes[0].shape == (1, 5, 4, 3) and shapes[1].shape == (1, 4, 5)
    try:
        attention(q, k[:, :, :1].expand(2, 50, 4, 20), v[:, :, :1].expand(2, 50, 4, 20))
        raise AssertionError("6 query heads over 4 KV heads were accepted")
    except RuntimeError as error:
        assert "multiple of KV heads, got 6 and 4" in str(error), error
    print("torch.ops.mneme.flash_attention: values, gradients, shapes and errors are right")


if __name__ == "__main__":
    main()
