"""Recurrent networks: sequences drive a Hamiltonian state at every step."""

from hdnn.recurrent.rnn import MODELS as MODELS
from hdnn.recurrent.rnn import OSCILLATORS as OSCILLATORS
from hdnn.recurrent.rnn import HamiltonianRNN as HamiltonianRNN
