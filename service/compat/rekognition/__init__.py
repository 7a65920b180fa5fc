"""Amazon Rekognition's JSON protocol (`POST /`, version 1.1): collections, faces and users."""
