"""What a mask DOES to the network it is put on."""

from prunus.masking.base import Application as Application
from prunus.masking.base import Masking as Masking
from prunus.masking.base import Site as Site
from prunus.masking.gate import Gate as Gate
from prunus.masking.gibbs import Gibbs as Gibbs
from prunus.masking.hard import Hard as Hard
from prunus.masking.hard_concrete import HardConcrete as HardConcrete
from prunus.masking.movement import Movement as Movement
from prunus.masking.optimizer import carry_over as carry_over
from prunus.masking.remember import Remember as Remember
from prunus.masking.retrain import Retrain as Retrain
from prunus.masking.scale import Scale as Scale
from prunus.masking.shadow import Shadow as Shadow
from prunus.masking.soft import Soft as Soft
from prunus.masking.substitution import Substitution as Substitution

LEARNING = (Gate, HardConcrete, Movement, Scale)
"""Those that learn numbers of their own, beside the weights."""
