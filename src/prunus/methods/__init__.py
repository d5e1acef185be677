"""One file per published method: a composition of the six rooms with the paper's defaults."""

from collections.abc import Callable

from prunus.methods.apoz import apoz as apoz
from prunus.methods.base import Method as Method
from prunus.methods.distil import distil as distil
from prunus.methods.drop import drop as drop
from prunus.methods.dsd import dsd as dsd
from prunus.methods.fpgm import fpgm as fpgm
from prunus.methods.gate import gate as gate
from prunus.methods.gibbs import gibbs as gibbs
from prunus.methods.gradual import gradual as gradual
from prunus.methods.grasp import grasp as grasp
from prunus.methods.group_lasso import group_lasso as group_lasso
from prunus.methods.guided import guided as guided
from prunus.methods.han import han as han
from prunus.methods.hrank import hrank as hrank
from prunus.methods.l0 import l0 as l0
from prunus.methods.l1_filter import l1_filter as l1_filter
from prunus.methods.lottery import lottery as lottery
from prunus.methods.magnitude import magnitude as magnitude
from prunus.methods.movement import movement as movement
from prunus.methods.obd import obd as obd
from prunus.methods.prunefl import prunefl as prunefl
from prunus.methods.regression import regression as regression
from prunus.methods.rigl import rigl as rigl
from prunus.methods.slimming import slimming as slimming
from prunus.methods.snip import snip as snip
from prunus.methods.soft_filter import soft_filter as soft_filter
from prunus.methods.sparse_evolution import set_ as set
from prunus.methods.sparsegpt import sparsegpt as sparsegpt
from prunus.methods.sss import sss as sss
from prunus.methods.synflow import synflow as synflow
from prunus.methods.taylor import taylor as taylor
from prunus.methods.thinet import thinet as thinet
from prunus.methods.try_and_learn import try_and_learn as try_and_learn
from prunus.methods.wanda import wanda as wanda

METHODS: dict[str, Callable[..., Method]] = {
    "l1_filter": l1_filter,
    "magnitude": magnitude,
    "gradual": gradual,
    "gibbs": gibbs,
    "han": han,
    "drop": drop,
    "dsd": dsd,
    "slimming": slimming,
    "soft_filter": soft_filter,
    "group_lasso": group_lasso,
    "gate": gate,
    "sss": sss,
    "l0": l0,
    "movement": movement,
    "set": set,
    "rigl": rigl,
    "taylor": taylor,
    "fpgm": fpgm,
    "hrank": hrank,
    "apoz": apoz,
    "obd": obd,
    "snip": snip,
    "grasp": grasp,
    "synflow": synflow,
    "wanda": wanda,
    "try_and_learn": try_and_learn,
    "distil": distil,
    "lottery": lottery,
    "thinet": thinet,
    "regression": regression,
    "sparsegpt": sparsegpt,
}
