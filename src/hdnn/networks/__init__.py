"""Networks: lift → flow → head, from inputs to logits or predictions."""

from hdnn.networks.config import PRESETS as PRESETS
from hdnn.networks.config import NetworkConfig as NetworkConfig
from hdnn.networks.config import build_network as build_network
from hdnn.networks.config import check_names as check_names
from hdnn.networks.images import hamiltonian74 as hamiltonian74
from hdnn.networks.images import hamiltonian218 as hamiltonian218
from hdnn.networks.images import hamiltonian1202 as hamiltonian1202
from hdnn.networks.images import image_network as image_network
from hdnn.networks.network import Network as Network
from hdnn.networks.network import ZeroPadding as ZeroPadding
from hdnn.networks.network import asked as asked
from hdnn.networks.network import class_probabilities as class_probabilities
from hdnn.networks.network import image_classifier as image_classifier
from hdnn.networks.network import logits as logits
from hdnn.networks.network import output_layer as output_layer
from hdnn.networks.network import predicted_classes as predicted_classes
from hdnn.networks.network import vector_classifier as vector_classifier
from hdnn.networks.network import vector_regressor as vector_regressor
from hdnn.options import Lift as Lift
from hdnn.options import Task as Task
