"""Scaled dot-product attention, taken as one operation whatever kernel computes it."""

from typing import Any

import numpy as np
from torch import Tensor

from prunus.space.labels import Label
from prunus.space.tracer import Tracer


def attention(
    tracer: Tracer,
    out: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    **_: Any,
) -> None:
    """softmax(q k^T * scale) v over (..., heads, tokens, width): whole heads may go.

    With grouped queries a key head goes with all the queries that share it. The width of queries
    and keys sets the default scale, so it stays unless `scale` is given, or the width inside heads
    is asked for: a rewritten graph then states the scale.
    """
    labels = tracer.labels
    q, k, v = tracer.of(query), tracer.of(key), tracer.of(value)
    if enable_gqa and query.ndim > 2:
        for kind in (k, v):
            if not isinstance(kind[-3], str):
                kind[-3] = np.repeat(kind[-3], query.shape[-3] // len(kind[-3]))
    batch: list[Label] = []
    for meeting in zip(q[:-2], k[:-2], v[:-2], strict=True):
        for other in meeting[1:]:
            labels.join(meeting[0], other)
        batch.append(next((x for x in meeting if not isinstance(x, str)), meeting[0]))
    labels.join(q[-1], k[-1])
    if scale is None and not labels.inside:
        labels.freeze(q[-1], "sets the scale of an attention")
    elif not (tracer.is_zero(query, -1) or tracer.is_zero(key, -1)):
        labels.freeze(q[-1], "is summed over in a product of activations")
    tracer.ends.append(q[-1])
    labels.yield_to_others(q[-1])
    labels.join(k[-2], v[-2])
    labels.freeze(k[-2], "is summed over in an attention")
    tokens = q[-2]
    if is_causal:
        labels.freeze(tokens, "is counted by a causal attention")
    if attn_mask is not None:
        for back, label in enumerate(reversed(tracer.of(attn_mask)), start=1):
            if attn_mask.shape[-back] > 1:
                labels.join(label, [k[-2], tokens, *reversed(batch)][back - 1])
    tracer.assign(out, [*batch, tokens, v[-1]])
    tracer.set_zero(out, tracer.zero(value) - {value.ndim - 2})
    sizes = [*query.shape[:-1], key.shape[-2]]
    for width, size in ((q[-1], query.shape[-1]), (v[-1], value.shape[-1])):
        dims = [*batch, tokens, k[-2], width]
        tracer.spend("attention", 1, list(zip(dims, [*sizes, size], strict=True)))


FUNCTIONS = {"scaled_dot_product_attention": attention}
