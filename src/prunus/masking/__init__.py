"""What a mask DOES to the network it is put on."""

from prunus.masking.hard import Hard as Hard
from prunus.masking.optimizer import carry_over as carry_over
from prunus.masking.soft import Soft as Soft

MASKINGS = {"hard": Hard, "soft": Soft}
