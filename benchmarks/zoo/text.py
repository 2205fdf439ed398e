"""Transformers, as the `transformers` library defines them, from their configurations alone."""

from __future__ import annotations

from typing import Any

import transformers
from torch import Tensor, nn


def bert_base() -> nn.Module:
    """12 layers of 768 (Devlin et al., 2018)."""
    return _Hidden(transformers.BertModel(_config("Bert"), add_pooling_layer=False))


def tinybert() -> nn.Module:
    """4 layers of 312 (Jiao et al., 2019)."""
    sizes = {"hidden_size": 312, "num_hidden_layers": 4, "intermediate_size": 1200}
    return _Hidden(transformers.BertModel(_config("Bert", **sizes), add_pooling_layer=False))


def distilbert() -> nn.Module:
    """6 layers of 768 (Sanh et al., 2019)."""
    return _Hidden(transformers.DistilBertModel(_config("DistilBert")))


def albert() -> nn.Module:
    """12 layers of 768 that share their weights (Lan et al., 2019): albert-base-v2."""
    sizes = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}
    config = _config("Albert", hidden_act="gelu_new", **sizes)
    return _Hidden(transformers.AlbertModel(config, add_pooling_layer=False))


def mobilebert() -> nn.Module:
    """24 layers of 512 with bottlenecks of 128 and no LayerNorm (Sun et al., 2020)."""
    model = transformers.MobileBertModel(_config("MobileBert"), add_pooling_layer=False)
    return _Hidden(model)


def gpt2() -> nn.Module:
    """12 layers of 768 (Radford et al., 2019), without the language-model head."""
    return _Hidden(transformers.GPT2Model(_config("GPT2", use_cache=False)))


class _Hidden(nn.Module):
    """The inputs in the catalog's order in, the last layer's states out."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor | None = None
    ) -> Tensor:
        """[1, tokens] -> [1, tokens, width]"""
        more = {} if position_ids is None else {"position_ids": position_ids}
        found = self.model(input_ids=input_ids, attention_mask=attention_mask, **more)
        return found.last_hidden_state


def _config(family: str, **changes: Any) -> Any:
    made = getattr(transformers, f"{family}Config")(**changes)
    made._attn_implementation = "eager"
    return made
