"""The model runners: what stands between a request and an OpenVINO infer request."""
