"""A verified release in other formats: Parquet shards for data tools, DICOM objects for picture archives."""
