"""Lightning's cluster environment for processes that were started externally."""

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment

from newsreel.core.dist import DistEnv, dist_env


class ExternalClusterEnvironment(ClusterEnvironment):
    """Tells Lightning that the processes and their process group already exist."""

    def __init__(self, env: DistEnv) -> None:
        super().__init__()
        self.env = env

    creates_processes_externally = True
    main_address = ""  # not used: `process_group` has connected the processes
    main_port = 0

    @staticmethod
    def detect() -> bool:
        return dist_env().world_size > 1

    def world_size(self) -> int:
        return self.env.world_size

    def set_world_size(self, size: int) -> None:
        assert size == self.env.world_size

    def global_rank(self) -> int:
        return self.env.rank

    def set_global_rank(self, rank: int) -> None:
        assert rank == self.env.rank

    def local_rank(self) -> int:
        return self.env.local_rank

    def node_rank(self) -> int:
        return self.env.rank // self.env.local_world_size
