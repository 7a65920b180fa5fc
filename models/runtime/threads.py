"""The thread policy of the service: only the engines and the callers compute in threads.

The service runs as many compute threads as it has cores: the streams of the engines, and the callers that decode and
align. OpenCV and BLAS would each start one more thread per core for steps of a tenth of a millisecond, and FAISS for
each search. The threads would then compete for the cores. `make bench` times the pipeline with and without these
limits; on two cores the difference is small.

* Engines: OpenVINO `INFERENCE_NUM_THREADS` and `NUM_STREAMS`, ONNX Runtime `intra_op_num_threads`, see
  `RuntimeOptions`. OpenVINO's threads are not pinned, because pinned threads queue for one core while another idles.
* OpenCV: limited to the calling thread by `limit_library_threads`.
* BLAS of numpy and scipy: limited to the calling thread by `limit_library_threads`. A search in several segments uses
  several threads, each with one BLAS thread.
* FAISS: limited by `service.gallery.index.faiss_vectors` in each thread that searches.
"""

import cv2
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]


def limit_library_threads() -> None:
    """Limit OpenCV and BLAS to the calling thread. Meant for the service; evaluations use all threads."""
    cv2.setNumThreads(1)
    threadpool_limits(1, "blas")
