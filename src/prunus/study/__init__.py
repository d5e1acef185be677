"""Experiments above methods."""

from prunus.study.missing import MissingClasses as MissingClasses
from prunus.study.missing import distil_without as distil_without
from prunus.study.specialists import train_specialist as train_specialist
