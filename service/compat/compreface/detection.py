"""`/api/v1/detection`: the faces of a photo."""

from fastapi import Request, Response

from models.deadline import Deadline
from models.errors import NoFace, VultusError
from service.api.backend import Backend, UsesBackend
from service.api.intake.body import ReceivedRequest
from service.compat.compreface.faces import largest_faces
from service.compat.compreface.intake import FaceOptions, read_options, read_photos
from service.compat.compreface.routing import compreface_router
from service.compat.compreface.wire import face_members, json_answer, versions

router = compreface_router("detection")


@router.post("/detect")
async def detect(request: Request, backend: UsesBackend) -> Response:
    """Detect the faces of a photo, the largest first."""
    return await backend.answer(request, _detect)


def _detect(backend: Backend, received: ReceivedRequest, deadline: Deadline) -> Response:
    options = read_options(received, FaceOptions)
    images = read_photos(received, backend.settings.request, ["file"])
    if options.wants("calculator"):
        (photo,) = largest_faces(backend, images, options, deadline)
        members = [face_members(judged.face.face, photo.size, options, deadline, judged.face) for judged in photo.faces]
    else:
        (found,) = backend.models.pipeline.detect(images, "all", deadline)
        if isinstance(found, VultusError):
            raise found
        faces = sorted((face for face in found.faces if face.score > options.min_score), key=lambda face: -face.area)
        if not faces:
            raise NoFace("no face was found in the image")
        size = (found.width, found.height)
        members = [face_members(face, size, options, deadline) for face in faces[: options.limit or None]]
    return json_answer({"result": members, **versions(backend.models, options)}, deadline)
