"""Programs that measure parts of newsreel, and the same work without newsreel around it; in newsreel's environment."""
