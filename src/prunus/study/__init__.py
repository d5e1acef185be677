"""Experiments above methods: which one, at which size, and against training from scratch."""

from prunus.study.arms import ARMS as ARMS
from prunus.study.execute import Studied as Studied
from prunus.study.execute import study as study
from prunus.study.missing import MissingClasses as MissingClasses
from prunus.study.missing import distil_without as distil_without
from prunus.study.recipe import Grid as Grid
from prunus.study.recipe import StudyMethod as StudyMethod
from prunus.study.recipe import StudyRecipe as StudyRecipe
from prunus.study.recipe import load as load
from prunus.study.recipe import parse_study as parse_study
from prunus.study.schedule import Tell as Tell
from prunus.study.search import SearchRecipe as SearchRecipe
from prunus.study.search import load_search as load_search
from prunus.study.search import parse_search as parse_search
from prunus.study.specialists import train_specialist as train_specialist
from prunus.study.tune import Tuned as Tuned
from prunus.study.tune import tune as tune
