"""Creates the buckets of MLflow and Metaflow, once S3 answers."""

import os
import sys

import boto3
from botocore.config import Config

# S3 may start after MLflow, so the client retries for about two minutes.
config = Config(retries={"total_max_attempts": 20, "mode": "standard"})
client = boto3.client(
    "s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"], config=config
)
existing = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
for name in sys.argv[1:]:
    if name not in existing:
        client.create_bucket(Bucket=name)
    print(f"bucket {name!r} exists")
