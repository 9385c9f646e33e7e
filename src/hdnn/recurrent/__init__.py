"""Recurrent networks: sequences drive a Hamiltonian state at every step, and whole sequences are classified."""

from hdnn.recurrent.networks import SequenceNetwork as SequenceNetwork
from hdnn.recurrent.networks import sequence_classifier as sequence_classifier
from hdnn.recurrent.networks import sequence_regressor as sequence_regressor
from hdnn.recurrent.rnn import HamiltonianRNN as HamiltonianRNN
