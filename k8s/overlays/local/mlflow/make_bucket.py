"""Makes the buckets that MLflow and Metaflow write to, once S3 answers."""

import os
import sys

import boto3
from botocore.config import Config

# S3 may come up after MLflow: about two minutes of trying.
config = Config(retries={"total_max_attempts": 20, "mode": "standard"})
client = boto3.client(
    "s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"], config=config
)
existing = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
for name in sys.argv[1:]:
    if name not in existing:
        client.create_bucket(Bucket=name)
    print(f"bucket {name} is there")
