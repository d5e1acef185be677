"""Tiny networks of transformers, built from configurations with random weights.

Each has two layers of width 32 to 64 and, where the family has them, what makes pruning hard: tied
embeddings, grouped queries, rotary positions, gates, experts, shifted windows, relative positions,
state spaces. No file is read and nothing is downloaded.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import transformers as hf
from torch import Tensor, nn

from prunus.types import Example

Inputs = Callable[[], dict[str, Tensor]]

ALONE: frozenset[str] = frozenset()

WORDS = 99
LENGTH = 12

LAYERS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZES = LAYERS | {"intermediate_size": 64}
ENCODER = SIZES | {"vocab_size": WORDS, "max_position_embeddings": 64}
DECODER = ENCODER | {
    "use_cache": False,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = DECODER | {"num_key_value_heads": 2}
ROUTED = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
TRANSLATOR = {
    "vocab_size": WORDS,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 64,
    "use_cache": False,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}
PATCHES = SIZES | {"image_size": 32, "patch_size": 8}
STAGES = {"depths": [1, 1, 1, 1]}
SPEECH = SIZES | {
    "vocab_size": 20,
    "conv_dim": (32, 32, 32),
    "conv_stride": (5, 2, 2),
    "conv_kernel": (10, 3, 2),
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "apply_spec_augment": False,
    "layerdrop": 0.0,
}
BACKBONE = {
    "embedding_size": 16,
    "hidden_sizes": [16, 32, 48, 64],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
    "out_features": ["stage2", "stage3", "stage4"],
}


def words() -> dict[str, Tensor]:
    return {
        "input_ids": torch.randint(3, WORDS, (1, LENGTH)),
        "attention_mask": torch.ones(1, LENGTH, dtype=torch.long),
    }


def two_sentences() -> dict[str, Tensor]:
    return words() | {"token_type_ids": (torch.arange(LENGTH) > LENGTH // 2).long()[None]}


def ids_only() -> dict[str, Tensor]:
    return {"input_ids": words()["input_ids"]}


def translation() -> dict[str, Tensor]:
    return words() | {"decoder_input_ids": torch.randint(3, WORDS, (1, LENGTH - 3))}


def image(side: int = 32) -> dict[str, Tensor]:
    return {"pixel_values": torch.randn(1, 3, side, side)}


def clip() -> dict[str, Tensor]:
    return {"pixel_values": torch.randn(1, 4, 3, 32, 32)}


def image_and_words(side: int = 32) -> dict[str, Tensor]:
    return image(side) | words()


def sound() -> dict[str, Tensor]:
    return {"input_values": torch.randn(1, 1000)}


def spectrogram() -> dict[str, Tensor]:
    return {
        "input_features": torch.randn(1, 16, 40),
        "decoder_input_ids": torch.randint(3, WORDS, (1, 6)),
    }


def frames() -> dict[str, Tensor]:
    return {
        "input_features": torch.randn(1, 40, 16),
        "decoder_input_ids": torch.randint(3, WORDS, (1, 6)),
    }


def series() -> dict[str, Tensor]:
    return {"past_values": torch.randn(1, 32, 3)}


def network(
    model: str, config: str, fields: dict[str, Any], inputs: Inputs
) -> tuple[nn.Module, Example]:
    """Return a network of transformers in eval mode and its keyword inputs."""
    settings = getattr(hf, config)(**fields)
    return getattr(hf, model)(settings).eval(), inputs()


def _clip_like(kind: str, inputs: Inputs) -> tuple[nn.Module, Example]:
    """Return a network of an image tower and a text tower."""
    text = ENCODER | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": WORDS - 1}
    fields = {"text_config": text, "vision_config": PATCHES, "projection_dim": 32}
    return network(f"{kind}Model", f"{kind}Config", fields, inputs)


def _detr(model: str, config: str, **fields: Any) -> tuple[nn.Module, Example]:
    """Return a detector on a small ResNet of transformers' own."""
    backbone = hf.ResNetConfig(**BACKBONE)
    return network(model, config, fields | {"backbone_config": backbone}, partial(image, 64))


# name -> class, configuration, its fields, inputs
FAMILIES: dict[str, tuple[str, str, dict[str, Any], Inputs]] = {
    # encoders of text
    "bert": ("BertForSequenceClassification", "BertConfig", ENCODER, two_sentences),
    "bert_masked_words": ("BertForMaskedLM", "BertConfig", ENCODER, two_sentences),
    "roberta": ("RobertaForMaskedLM", "RobertaConfig", ENCODER, words),
    "distilbert": (
        "DistilBertForSequenceClassification",
        "DistilBertConfig",
        {"vocab_size": WORDS, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
        words,
    ),
    "albert": (
        "AlbertForSequenceClassification",
        "AlbertConfig",
        ENCODER | {"embedding_size": 16},
        words,
    ),
    "electra": ("ElectraForPreTraining", "ElectraConfig", ENCODER | {"embedding_size": 16}, words),
    "deberta": (
        "DebertaForSequenceClassification",
        "DebertaConfig",
        ENCODER | {"relative_attention": True, "pos_att_type": "p2c|c2p"},
        words,
    ),
    "deberta_v2": (
        "DebertaV2ForSequenceClassification",
        "DebertaV2Config",
        ENCODER
        | {"relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"]},
        words,
    ),
    "mobilebert": (
        "MobileBertForSequenceClassification",
        "MobileBertConfig",
        ENCODER
        | {"embedding_size": 16, "intra_bottleneck_size": 32, "true_hidden_size": 32}
        | {"hidden_size": 64},
        words,
    ),
    "modernbert": (
        "ModernBertForMaskedLM",
        "ModernBertConfig",
        ENCODER
        | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
        | {"cls_token_id": 1, "sep_token_id": 2, "local_attention": 8},
        words,
    ),
    "fnet": ("FNetForSequenceClassification", "FNetConfig", ENCODER, ids_only),
    "squeezebert": (
        "SqueezeBertForSequenceClassification",
        "SqueezeBertConfig",
        ENCODER | {"embedding_size": 32},
        words,
    ),
    "convbert": (
        "ConvBertForSequenceClassification",
        "ConvBertConfig",
        ENCODER | {"embedding_size": 32},
        words,
    ),
    "xlnet": (
        "XLNetForSequenceClassification",
        "XLNetConfig",
        {"vocab_size": WORDS, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64},
        words,
    ),
    # decoders of text
    "gpt2": (
        "GPT2LMHeadModel",
        "GPT2Config",
        {"vocab_size": WORDS, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
        | {"use_cache": False, "bos_token_id": 1, "eos_token_id": 2},
        words,
    ),
    "gpt_neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", DECODER, words),
    "gptj": (
        "GPTJForCausalLM",
        "GPTJConfig",
        {"vocab_size": WORDS, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
        | {"rotary_dim": 4, "use_cache": False, "bos_token_id": 1, "eos_token_id": 2},
        words,
    ),
    "opt": (
        "OPTForCausalLM",
        "OPTConfig",
        DECODER | {"ffn_dim": 64, "word_embed_proj_dim": 32},
        words,
    ),
    "bloom": (
        "BloomForCausalLM",
        "BloomConfig",
        {"vocab_size": WORDS, "hidden_size": 32, "n_layer": 2, "n_head": 4, "use_cache": False},
        words,
    ),
    "falcon": ("FalconForCausalLM", "FalconConfig", DECODER | {"multi_query": True}, words),
    "llama": ("LlamaForCausalLM", "LlamaConfig", GROUPED, words),
    "mistral": ("MistralForCausalLM", "MistralConfig", GROUPED | {"sliding_window": 8}, words),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", GROUPED | {"tie_word_embeddings": True}, words),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", GROUPED | {"head_dim": 16}, words),
    "gemma": ("GemmaForCausalLM", "GemmaConfig", GROUPED | {"head_dim": 8}, words),
    "gemma2": (
        "Gemma2ForCausalLM",
        "Gemma2Config",
        GROUPED | {"head_dim": 8, "sliding_window": 8, "query_pre_attn_scalar": 8},
        words,
    ),
    "phi": ("PhiForCausalLM", "PhiConfig", GROUPED, words),
    "phi3": ("Phi3ForCausalLM", "Phi3Config", GROUPED, words),
    "olmo": ("OlmoForCausalLM", "OlmoConfig", GROUPED, words),
    "stablelm": ("StableLmForCausalLM", "StableLmConfig", GROUPED, words),
    "mixtral": (
        "MixtralForCausalLM",
        "MixtralConfig",
        GROUPED | {"num_local_experts": 4, "num_experts_per_tok": 2},
        words,
    ),
    "qwen2_moe": (
        "Qwen2MoeForCausalLM",
        "Qwen2MoeConfig",
        GROUPED | ROUTED | {"num_experts": 4, "shared_expert_intermediate_size": 32},
        words,
    ),
    "deepseek_v3": (
        "DeepseekV3ForCausalLM",
        "DeepseekV3Config",
        DECODER
        | ROUTED
        | {"num_key_value_heads": 4, "n_routed_experts": 4, "n_group": 2, "topk_group": 1}
        | {"kv_lora_rank": 16, "q_lora_rank": 16, "first_k_dense_replace": 1}
        | {"qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8, "n_shared_experts": 1},
        words,
    ),
    "gpt_oss": (
        "GptOssForCausalLM",
        "GptOssConfig",
        GROUPED | {"head_dim": 8, "num_local_experts": 4, "num_experts_per_tok": 2},
        words,
    ),
    # state spaces
    "mamba": (
        "MambaForCausalLM",
        "MambaConfig",
        {"vocab_size": WORDS, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}
        | {"use_cache": False, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
        ids_only,
    ),
    "mamba2": (
        "Mamba2ForCausalLM",
        "Mamba2Config",
        {"vocab_size": WORDS, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}
        | {"num_heads": 8, "head_dim": 8, "n_groups": 2, "chunk_size": 4, "use_cache": False}
        | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
        ids_only,
    ),
    "rwkv": (
        "RwkvForCausalLM",
        "RwkvConfig",
        {"vocab_size": WORDS, "hidden_size": 32, "num_hidden_layers": 2, "context_length": 32}
        | {"use_cache": False, "bos_token_id": 1, "eos_token_id": 2},
        ids_only,
    ),
    # from text to text
    "t5": (
        "T5ForConditionalGeneration",
        "T5Config",
        {"vocab_size": WORDS, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2}
        | {"num_heads": 4, "use_cache": False, "decoder_start_token_id": 0},
        translation,
    ),
    "t5_gated": (
        "T5ForConditionalGeneration",
        "T5Config",
        {"vocab_size": WORDS, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2}
        | {"num_heads": 4, "use_cache": False, "decoder_start_token_id": 0}
        | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
        translation,
    ),
    "bart": ("BartForConditionalGeneration", "BartConfig", TRANSLATOR, translation),
    "mbart": ("MBartForConditionalGeneration", "MBartConfig", TRANSLATOR, translation),
    "marian": ("MarianMTModel", "MarianConfig", TRANSLATOR, translation),
    # images
    "vit": ("ViTForImageClassification", "ViTConfig", PATCHES, image),
    "deit": ("DeiTForImageClassification", "DeiTConfig", PATCHES, image),
    "dinov2": ("Dinov2ForImageClassification", "Dinov2Config", PATCHES, image),
    "beit": (
        "BeitForImageClassification",
        "BeitConfig",
        PATCHES | {"use_relative_position_bias": True, "vocab_size": WORDS},
        image,
    ),
    "yolos": (
        "YolosForObjectDetection",
        "YolosConfig",
        PATCHES | {"image_size": [32, 32], "num_detection_tokens": 5},
        image,
    ),
    "swin": (
        "SwinForImageClassification",
        "SwinConfig",
        {"image_size": 64, "patch_size": 4, "window_size": 4, "embed_dim": 16}
        | {"depths": [2, 2], "num_heads": [2, 4]},
        partial(image, 64),
    ),
    "swinv2": (
        "Swinv2ForImageClassification",
        "Swinv2Config",
        {"image_size": 64, "patch_size": 4, "window_size": 4, "embed_dim": 16}
        | {"depths": [2, 2], "num_heads": [2, 4]},
        partial(image, 64),
    ),
    "convnext": (
        "ConvNextForImageClassification",
        "ConvNextConfig",
        STAGES | {"hidden_sizes": [16, 32, 48, 64]},
        partial(image, 64),
    ),
    "convnextv2": (
        "ConvNextV2ForImageClassification",
        "ConvNextV2Config",
        STAGES | {"hidden_sizes": [16, 32, 48, 64]},
        partial(image, 64),
    ),
    "resnet": (
        "ResNetForImageClassification",
        "ResNetConfig",
        BACKBONE | {"layer_type": "bottleneck"},
        partial(image, 64),
    ),
    "mobilevit": (
        "MobileViTForImageClassification",
        "MobileViTConfig",
        {
            "image_size": 64,
            "hidden_sizes": [32, 48, 64],
            "neck_hidden_sizes": [8, 16, 16, 24, 32, 32, 48],
        }
        | {"num_attention_heads": 4, "last_hidden_sizes": 64},
        partial(image, 64),
    ),
    "poolformer": (
        "PoolFormerForImageClassification",
        "PoolFormerConfig",
        STAGES | {"hidden_sizes": [16, 32, 48, 64]},
        partial(image, 64),
    ),
    "segformer": (
        "SegformerForSemanticSegmentation",
        "SegformerConfig",
        STAGES
        | {"hidden_sizes": [16, 32, 48, 64], "num_attention_heads": [1, 2, 3, 4]}
        | {"decoder_hidden_size": 32},
        partial(image, 64),
    ),
    "dpt": (
        "DPTForDepthEstimation",
        "DPTConfig",
        PATCHES
        | {"num_hidden_layers": 4, "backbone_out_indices": [0, 1, 2, 3]}
        | {"neck_hidden_sizes": [16, 16, 32, 32], "fusion_hidden_size": 32},
        image,
    ),
    # clips, sound, series
    "videomae": (
        "VideoMAEForVideoClassification",
        "VideoMAEConfig",
        PATCHES | {"num_frames": 4, "tubelet_size": 2},
        clip,
    ),
    "whisper": (
        "WhisperForConditionalGeneration",
        "WhisperConfig",
        TRANSLATOR
        | {"num_mel_bins": 16, "max_source_positions": 20, "max_target_positions": 20}
        | {"begin_suppress_tokens": None, "suppress_tokens": None},
        spectrogram,
    ),
    "speech_to_text": (
        "Speech2TextForConditionalGeneration",
        "Speech2TextConfig",
        TRANSLATOR
        | {"input_feat_per_channel": 16, "conv_channels": 32, "max_source_positions": 40}
        | {"max_target_positions": 20},
        frames,
    ),
    "wav2vec2": ("Wav2Vec2ForCTC", "Wav2Vec2Config", SPEECH, sound),
    "wav2vec2_stable": (
        "Wav2Vec2ForCTC",
        "Wav2Vec2Config",
        SPEECH | {"do_stable_layer_norm": True, "feat_extract_norm": "layer"},
        sound,
    ),
    "hubert": ("HubertForCTC", "HubertConfig", SPEECH, sound),
    "audio_spectrogram": (
        "ASTForAudioClassification",
        "ASTConfig",
        SIZES
        | {"max_length": 32, "num_mel_bins": 16, "patch_size": 8}
        | {"frequency_stride": 8, "time_stride": 8},
        lambda: {"input_values": torch.randn(1, 32, 16)},
    ),
    "patchtst": (
        "PatchTSTForPrediction",
        "PatchTSTConfig",
        {"num_input_channels": 3, "context_length": 32, "patch_length": 8, "patch_stride": 8}
        | {"d_model": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 64}
        | {"prediction_length": 8},
        series,
    ),
}

NETWORKS: dict[str, Callable[[], tuple[nn.Module, Example]]] = {
    name: partial(network, *row) for name, row in FAMILIES.items()
} | {
    "clip": partial(_clip_like, "CLIP", image_and_words),
    "siglip": partial(_clip_like, "Siglip", image_and_words),
    "detr": partial(
        _detr,
        "DetrForObjectDetection",
        "DetrConfig",
        **(TRANSLATOR | {"num_queries": 6, "use_timm_backbone": False}),
    ),
}
