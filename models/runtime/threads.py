"""Who may start threads: the one place where that is settled.

A service has as many threads that compute as it has cores: the streams of the engines, and the callers that decode and
align. OpenCV and BLAS would each start as many again for steps of a tenth of a millisecond, and FAISS for each search;
then all wait for each other. `make bench` times the pipeline both ways; on two cores they hardly differ.

* Engines: OpenVINO `INFERENCE_NUM_THREADS` and `NUM_STREAMS`, ONNX Runtime `intra_op_num_threads`, see
  `RuntimeOptions`. OpenVINO's threads are not pinned: pinned ones queue for one core while another idles.
* OpenCV: none of its own, below.
* BLAS of numpy and scipy: none of their own, below. A search in several segments is several threads with one each.
* FAISS: none of its own; `service.gallery.index.faiss_vectors` says so to each thread that searches.
"""

import cv2
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]


def leave_cores_to_engines() -> None:
    """Let OpenCV and BLAS compute in the thread that calls them; for a service, not for an evaluation."""
    cv2.setNumThreads(1)
    threadpool_limits(1, "blas")
