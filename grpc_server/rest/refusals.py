"""Why a REST request is refused."""

from http import HTTPStatus


class Refusal(Exception):
    """A request is refused.

    Parameters
    ----------
    message : str
        What came and what is allowed, for people.
    status : HTTPStatus
        Status of the answer.
    """

    def __init__(  # noqa: B042  never pickled
        self, message: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST
    ) -> None:
        super().__init__(message)
        self.status = status
