# Poslab in a container, on the CPU by default:
#
#   docker build -t poslab .
#   docker run --rm -v poslab-runs:/poslab/outputs poslab                     # trains with encoding=rotary
#   docker run --rm -v poslab-runs:/poslab/outputs poslab encoding=alibi      # any arguments of src.train
#
# Build arguments:
#   BASE_IMAGE  any image with Python >= 3.11. An image with CUDA and its own torch >= 2.12 (such as
#               pytorch/pytorch with a tag of your choice) keeps that torch; start it with `docker run --gpus all`.
#   PIP_ARGS    extra arguments for pip, for instance to name another package index.
#   USER_ID     the user id that owns the runs (default 1000); take your own to write into a mounted folder.
ARG BASE_IMAGE=python:3.11.16-slim-trixie
FROM ${BASE_IMAGE}

ARG PIP_ARGS=""
ARG USER_ID=1000

WORKDIR /poslab

# Install the dependencies first, with just enough of the package, so that a change of the code does not fetch torch again.
# The environment sees the packages of the base image, so that a torch in it is used.
COPY pyproject.toml setup.py README.md LICENSE ./
COPY src/poslab/__init__.py src/poslab/py.typed src/poslab/
RUN mkdir conf sweeps comparisons
RUN python3 -m venv --system-site-packages .venv
RUN .venv/bin/python -m pip install --no-cache-dir ${PIP_ARGS} -e .

COPY . .
RUN id -u poslab >/dev/null 2>&1 || useradd --create-home --non-unique --uid "${USER_ID:-1000}" poslab
RUN chown -R poslab outputs

USER poslab
ENV PATH=/poslab/.venv/bin:$PATH
ENTRYPOINT ["python", "-m", "src.train"]
CMD ["encoding=rotary"]
