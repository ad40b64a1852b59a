"""What threads take turns at."""

import threading

TURNS = threading.RLock()  # models, devices, workers and the number of torch's threads belong to the process
