"""Federated pruning: clients train and sum up gradients, the server averages and decides."""

from prunus.federated.execute import Finished as Finished
from prunus.federated.execute import federate as federate
from prunus.federated.methods import METHODS as METHODS
from prunus.federated.recipe import FederatedRecipe as FederatedRecipe
from prunus.federated.recipe import load as load
from prunus.federated.recipe import parse as parse
