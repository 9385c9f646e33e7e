"""Recurrent networks: sequences drive a Hamiltonian state at every step, and whole sequences are classified."""

from hdnn.recurrent.rnn import HamiltonianRNN as HamiltonianRNN
