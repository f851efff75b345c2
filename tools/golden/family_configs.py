"""The models of tests/golden/family_models.jsonl: (config.json, length of the prompt).

Between them every field that changes a family's mathematics has a value that changes it; what may be left out is left out
in one model, so that its default counts. Some are spelt as the hub's files are, others as transformers 5 saves. What the
engine's ops take as floats is exact as one: eps, multipliers and their inverses, the root of Gemma's hidden size.
"""

EPS = 2.0**-17


def config(model_type, **fields):
    common = dict(vocab_size=96, num_hidden_layers=3, intermediate_size=40, max_position_embeddings=256, rms_norm_eps=EPS)
    return dict(model_type=model_type, **{**common, **fields})


def mea(plain, keys, values):
    """Component heads by layer."""
    composition = dict(kind="mea", num_component_key_heads=keys, num_component_value_heads=values, head_norm="none")
    return {**plain, "model_type": "mea", "base_model_type": plain["model_type"], "head_composition": composition}


def gemma3(**fields):
    return config("gemma3_text", hidden_activation="gelu_pytorch_tanh", **fields)


def phi3(**fields):
    return config("phi3", **fields)


def smollm3(**fields):
    return config("smollm3", **fields)


def olmo2(**fields):
    return config("olmo2", **fields)


def olmo3(**fields):
    return config("olmo3", **fields)


def granite(**fields):
    return config("granite", **fields)


# Layers 1, 2 and 4 see a window; the third is global, with the scaled RoPE.
GEMMA3_PATTERN = dict(
    num_hidden_layers=4, sliding_window_pattern=3, sliding_window=7, query_pre_attn_scalar=10, hidden_size=64, head_dim=16,
    num_attention_heads=4, num_key_value_heads=2, rope_theta=10000.0, rope_local_base_freq=100.0,
    rope_scaling=dict(rope_type="linear", factor=8.0),
)  # fmt: skip
GEMMA3_TYPES = dict(
    layer_types=["full_attention", "sliding_attention", "full_attention"], sliding_window=12, query_pre_attn_scalar=24,
    hidden_size=36, head_dim=8, num_attention_heads=3, num_key_value_heads=1, attention_bias=True, tie_word_embeddings=False,
    rope_parameters=dict(full_attention=dict(rope_type="default", rope_theta=500000.0),
                         sliding_attention=dict(rope_type="linear", rope_theta=1000.0, factor=2.0)),
)  # fmt: skip

# Rotated are 18 of 24 elements of a head, and 12 of 16.
PHI3_PARTIAL = dict(hidden_size=72, num_attention_heads=3, partial_rotary_factor=0.75, rope_theta=1000.0, tie_word_embeddings=True)
PHI3_HEADS = dict(hidden_size=96, num_attention_heads=6, num_key_value_heads=3)
SHORT, LONG = [1.0, 1.05, 1.1, 1.25, 1.5, 2.0], [1.0, 1.5, 2.5, 6.0, 11.0, 24.0]
# The context is more than ten times the original one: long factors, cos and sin times sqrt(1 + ln(256 / 24) / ln 24).
PHI3_LONG = dict(
    PHI3_HEADS, original_max_position_embeddings=24, sliding_window=262144, partial_rotary_factor=0.75, rope_theta=5000.0,
    rope_scaling=dict(type="longrope", short_factor=SHORT, long_factor=LONG),
)  # fmt: skip
# The context is the original one: short factors; but the attention factor is that of the long context.
PHI3_SHORT = dict(
    PHI3_HEADS, max_position_embeddings=128, original_max_position_embeddings=128,
    rope_parameters=dict(rope_type="longrope", rope_theta=5000.0, partial_rotary_factor=0.75, factor=4.0,
                         original_max_position_embeddings=128, short_factor=SHORT, long_factor=LONG),
)  # fmt: skip

# Layers 2 and 4 do not rotate and see a window.
SMOLLM3_INTERVAL = dict(
    num_hidden_layers=4, no_rope_layer_interval=2, use_sliding_window=True, sliding_window=6, hidden_size=32, num_attention_heads=4,
    num_key_value_heads=2, attention_bias=True, mlp_bias=True,
)  # fmt: skip
SMOLLM3_LIST = dict(
    no_rope_layers=[0, 1, 1], layer_types=["full_attention"] * 3, use_sliding_window=False, sliding_window=None, hidden_size=48,
    num_attention_heads=6, num_key_value_heads=3, rope_theta=5000.0, tie_word_embeddings=False,
    rope_scaling=dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=64),
)  # fmt: skip

OLMO2_GQA = dict(
    hidden_size=40, num_attention_heads=9, num_key_value_heads=3, head_dim=8, tie_word_embeddings=True, rope_theta=500000.0,
    rope_scaling=dict(rope_type="linear", factor=4.0),
)  # fmt: skip
OLMO2_MHA = dict(hidden_size=60, num_attention_heads=5, rope_theta=100.0, attention_bias=True)

# Layers 1, 2, 3 and 5 see a window; the fourth is global, with the scaled RoPE of the default theta.
OLMO3_PATTERN = dict(
    num_hidden_layers=5, sliding_window=7, hidden_size=40, num_attention_heads=6, num_key_value_heads=3, head_dim=8,
    rope_scaling=dict(rope_type="yarn", factor=8.0, original_max_position_embeddings=32, attention_factor=1.25),
)  # fmt: skip
OLMO3_TYPES = dict(
    layer_types=["full_attention", "sliding_attention", "full_attention"], sliding_window=12, hidden_size=60, num_attention_heads=5,
    attention_bias=True, tie_word_embeddings=True,
    rope_parameters=dict(full_attention=dict(rope_type="default", rope_theta=100.0),
                         sliding_attention=dict(rope_type="linear", rope_theta=1000.0, factor=2.0)),
)  # fmt: skip

GRANITE_UNTIED = dict(
    hidden_size=64, num_attention_heads=4, num_key_value_heads=2, embedding_multiplier=4, attention_multiplier=0.5625,
    residual_multiplier=0.4375, logits_scaling=2, attention_bias=True, mlp_bias=True, rope_theta=3000.0,
)  # fmt: skip
GRANITE_TIED = dict(
    hidden_size=36, num_attention_heads=6, num_key_value_heads=3, head_dim=8, embedding_multiplier=0.40625, attention_multiplier=0.75,
    residual_multiplier=1.625, logits_scaling=0.5, rope_theta=100000.0, tie_word_embeddings=True,
    rope_scaling=dict(rope_type="llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32),
)  # fmt: skip
# Every multiplier is 1 where the file has none: attention is not divided by sqrt(head_dim).
GRANITE_DEFAULTS = dict(hidden_size=32, num_attention_heads=4)

COMPOSED = dict(num_attention_heads=8, num_key_value_heads=4, tie_word_embeddings=False)

MODELS = {
    "gemma3_pattern": (gemma3(**GEMMA3_PATTERN), 37),
    "gemma3_types": (gemma3(**GEMMA3_TYPES), 29),
    "gemma3_mea": (mea(gemma3(**{**GEMMA3_PATTERN, **COMPOSED}), [2, 3, 1, 4], [2, 1, 3, 1]), 31),
    "phi3_window": (phi3(hidden_size=48, num_attention_heads=6, num_key_value_heads=2, rope_theta=1000.0, sliding_window=9), 33),
    "phi3_partial": (phi3(**PHI3_PARTIAL), 19),
    "phi3_long": (phi3(**PHI3_LONG), 41),
    "phi3_short": (phi3(**PHI3_SHORT), 30),
    "phi3_mea": (mea(phi3(**PHI3_LONG), [2, 1, 3], [1, 2, 1]), 45),
    "smollm3_interval": (smollm3(**SMOLLM3_INTERVAL), 27),
    "smollm3_list": (smollm3(**SMOLLM3_LIST), 35),
    "smollm3_mea": (mea(smollm3(**{**SMOLLM3_INTERVAL, **COMPOSED}), [2, 2, 1, 3], [2, 1, 4, 1]), 25),
    "olmo2_gqa": (olmo2(**OLMO2_GQA), 23),
    "olmo2_mha": (olmo2(**OLMO2_MHA), 17),
    "olmo2_mea": (mea(olmo2(**OLMO2_GQA), [3, 3, 3], [1, 2, 1]), 26),
    "olmo3_pattern": (olmo3(**OLMO3_PATTERN), 36),
    "olmo3_types": (olmo3(**OLMO3_TYPES), 28),
    "olmo3_mea": (mea(olmo3(**{**OLMO3_PATTERN, **COMPOSED}), [4] * 5, [1, 2, 3, 1, 2]), 29),
    "granite_untied": (granite(**GRANITE_UNTIED), 22),
    "granite_tied": (granite(**GRANITE_TIED), 39),
    "granite_defaults": (granite(**GRANITE_DEFAULTS), 12),
    "granite_mea": (mea(granite(**{**GRANITE_UNTIED, **COMPOSED}), [2, 3, 1], [2, 1, 4]), 28),
}
