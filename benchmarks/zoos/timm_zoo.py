"""At least one network of every module file of timm, with random weights and a small input.

Of each family the smallest variant is taken, and a second one where a file holds several designs.
Transformers of more than 60 million parameters are cut to four blocks.
"""

from functools import partial

import timm
import torch
from timm.models import get_pretrained_cfg, model_entrypoint
from torch import nn

from prunus.types import Example

ALONE: frozenset[str] = frozenset()

SIDE = 96
"""Side of the image where the network takes it: three by three at a stride of 32."""

SIDES = {
    "bat_resnext26ts": 256,
    "crossvit_9_dagger_240": 240,
    "crossvit_tiny_240": 240,
    "deepseek_vit_412m": 112,
    "efficientformer_l1": 224,
    "halonet_h1": 256,
    "haloregnetz_b": 224,
    "lamhalobotnet50ts_256": 128,
}
"""Of the others: windows, blocks or learned positions fit nothing smaller."""

SHALLOW = frozenset(
    {
        "beit_base_patch16_224",
        "beitv2_base_patch16_224",
        "deepseek_vit_412m",
        "gemma4_vit_167m",
        "naflexvit_base_patch16_parfac_gap",
        "qwen3_vit_88m",
        "samvit_base_patch16_224",
    }
)

# module file: its networks
FILES = """
beit: beit_base_patch16_224 beitv2_base_patch16_224
byoanet: halonet_h1 lambda_resnet26t haloregnetz_b botnet26t_256 lamhalobotnet50ts_256
byobnet: test_byobnet mobileone_s1 gernet_s repvgg_a0 regnetz_b16 eca_resnext26ts gcresnext26ts
    bat_resnext26ts
cait: cait_xxs24_224
coat: coat_tiny coat_lite_tiny
convit: convit_tiny
convmixer: convmixer_768_32
convnext: test_convnext convnext_zepto_rms_ols convnextv2_atto
cpubone: cpubone_nano
crossvit: crossvit_tiny_240 crossvit_9_dagger_240
csatv2: csatv2
cspnet: cs3darknet_focus_s darknet17 cspresnext50 cspresnet50 darknetaa53
cspnext: cspnext_tiny
davit: davit_tiny
deepseek_vit: deepseek_vit_412m
deit: deit_tiny_distilled_patch16_224 deit3_small_patch16_224
densenet: densenet121 densenetblur121d
dla: dla46x_c dla34 dla60_res2net
dpn: dpn48b dpn68
edgenext: edgenext_xx_small
efficientformer: efficientformer_l1
efficientformer_v2: efficientformerv2_s0
efficientnet: test_efficientnet mobilenetv1_100 mobilenetv2_035 mnasnet_small tinynet_e
    mobilenet_edgetpu_100 mixnet_s fbnetc_100 tf_efficientnetv2_b0 gc_efficientnetv2_rw_t
efficientvim: efficientvim_m1
efficientvit_mit: efficientvit_b0
efficientvit_msra: efficientvit_m0
eva: vit_tiny_patch16_dinov3_qkvb eva02_tiny_patch14_224 vit_pe_core_tiny_patch16_384
    vit_small_patch16_rope_mixed_224
fasternet: fasternet_t0
fastvit: fastvit_t8 fastvit_mci0
focalnet: focalnet_tiny_srf
gcvit: gcvit_xxtiny
gemma4_vit: gemma4_vit_167m
ghostnet: ghostnet_050 ghostnetv2_100 ghostnetv3_050
hardcorenas: hardcorenas_b
hgnet: hgnetv2_b0 hgnet_tiny
hiera: hiera_tiny_224
hieradet_sam2: hieradet_small
hrnet: hrnet_w18_small
iformer: iformer_t
inception_next: inception_next_atto
inception_resnet_v2: inception_resnet_v2
inception_v3: inception_v3
inception_v4: inception_v4
lcnetv2: lcnetv2_small
levit: levit_128s levit_conv_128s
lowformer: lowformer_b0
mambaout: test_mambaout
maxxvit: test_coatnet test_maxvit coatnext_nano_rw_224 maxxvit_rmlp_nano_rw_256
metaformer: poolformerv2_s12 poolformer_s12 caformer_s18 convformer_s18
mlp_mixer: gmlp_ti16_224 gmixer_12_224 resmlp_12_224 mixer_s16_224
mobilenetv3: mobilenetv3_small_050 lcnet_035 fbnetv3_b mobilenetv4_conv_small_035
    mobilenetv4_hybrid_medium_075
mobilenetv5: mobilenetv5_base
mobilevit: mobilevit_xxs mobilevitv2_050
mvitv2: mvitv2_tiny mvitv2_small_cls
naflexvit: naflexvit_base_patch16_parfac_gap
nasnet: nasnetalarge
nest: nest_tiny
nextvit: nextvit_small
nfnet: test_nfnet nf_regnet_b0 nf_resnet26
pit: pit_ti_224 pit_ti_distilled_224
pnasnet: pnasnet5large
pvt_v2: pvt_v2_b0 pvt_v2_b2_li
qwen3_vit: qwen3_vit_88m
rdnet: rdnet_tiny
regnet: regnetx_002 regnety_002 regnetz_005 regnetv_040
repghost: repghostnet_050
repvit: repvit_m1
res2net: res2next50 res2net50d
resnest: resnest14d
resnet: test_resnet resnetblur18 seresnet18 ecaresnext26t_32x4d resnetaa34d resnext50_32x4d
    resnet50_gn resnetrs50
resnetv2: resnetv2_18 resnetv2_50x1_bit
rexnet: rexnet_100 rexnetr_100
selecsls: selecsls42
senet: legacy_seresnet18 legacy_seresnext26_32x4d
sequencer: sequencer2d_s
shvit: shvit_s1
sknet: skresnet18 skresnext50_32x4d
starnet: starnet_s050
swiftformer: swiftformer_xs
swin_transformer: swin_tiny_patch4_window7_224 swin_s3_tiny_224
swin_transformer_v2: swinv2_tiny_window8_256
swin_transformer_v2_cr: swinv2_cr_tiny_ns_224
tiny_vit: tiny_vit_5m_224
tnt: tnt_s_legacy_patch16_224 tnt_s_patch16_224
tresnet: tresnet_m
twins: twins_svt_small twins_pcpvt_small
vgg: vgg11 vgg11_bn
visformer: visformer_tiny
vision_transformer: test_vit test_vit2 test_vit3 test_vit4 vit_tiny_patch16_224
    vit_small_patch14_reg4_dinov2 vit_pwee_patch16_reg1_gap_256 vit_dwee_patch16_reg1_gap_256
vision_transformer_hybrid: vit_tiny_r_s16_p8_224
vision_transformer_relpos: test_vit_relpos vit_srelpos_small_patch16_224
vision_transformer_sam: samvit_base_patch16_224
vitamin: vitamin_small_224
volo: volo_d1_224
vovnet: ese_vovnet19b_slim_dw vovnet39a eca_vovnet39b
xception: legacy_xception
xception_aligned: xception41p xception41
xcit: xcit_nano_12_p8_224
"""


def build(name: str) -> tuple[nn.Module, Example]:
    """Return one network in eval mode and its example input."""
    configuration = get_pretrained_cfg(name)
    side = SIDES.get(name, SIDE)
    options = {"depth": 4} if name in SHALLOW else {}
    if configuration.fixed_input_size and side != configuration.input_size[-1]:
        options["img_size"] = side
    return timm.create_model(name, pretrained=False, **options).eval(), torch.randn(
        1, 3, side, side
    )


NETWORKS = {name: partial(build, name) for name in FILES.split() if not name.endswith(":")}


def modules() -> set[str]:
    """Return the module files of the installed timm that hold networks."""
    return {_file(name) for name in timm.list_models()}


def uncovered() -> set[str]:
    """Return those module files of which no network is here."""
    return modules() - {_file(name) for name in NETWORKS}


def _file(name: str) -> str:
    return model_entrypoint(name).__module__.rpartition(".")[2]
