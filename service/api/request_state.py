"""Names of the members of a request's state, by which middleware, routes and observers pass findings on."""

ACCESS = "access"
"""What the request was admitted with."""

DEADLINE = "deadline"
"""Its deadline, which has the times of its stages."""

PROBLEM = "problem"
"""The code of the error with which it was answered."""

REQUEST_ID = "request_id"

TRACE = "trace"
"""Its span, if requests are traced."""
