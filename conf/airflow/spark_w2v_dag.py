"""Every night: prepare, train, evaluate, gate, publish. Copy this file to Airflow's dags folder; docs/scheduling.md.

Each task may be run again at any time: it does the same to the same date, or nothing. Where the text of a date was
repaired, give its run another id in the params, the date and a letter. An earlier date than that of the current run is
trained, and not published. Readers see none of it until the last task, which gives them the new vectors in one step.
What is asked of a run is in its params, so that one DAG serves several corpora and
`airflow dags test spark_w2v DATE --conf '{"input": ...}'` tries it.

Airflow's own environment must not be the job's: the Spark provider brings pyspark-client, which is another `pyspark`.
The job's bin directory belongs on the PATH of the Airflow worker, so that spark-submit is found there.
"""

import datetime

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, Param

# A run that is triggered by hand may have no logical date.
RUN_ID = "{{ params.run_id or ((dag_run.logical_date or dag_run.run_after) | ds_nodash) }}"
# A shell gets what comes from outside as variables, never as part of its program.
SHELL = {
    "CHECKOUT": "{{ params.checkout }}",
    "PYTHON": "{{ params.checkout }}/.venv/bin/python",
    "INPUT": "{{ params.input }}",
    "OUTPUT": "{{ params.output }}",
    "PAIRS": "{{ params.pairs }}",
    "LIMIT": "{{ params.fail_below }}",
    "KEEP_RUNS": "{{ params.keep_runs }}",
    "REPORTS": "{{ params.reports or params.output ~ '/evaluations' }}",
    "RUN_ID": RUN_ID,
}

with DAG(
    "spark_w2v",
    schedule="15 2 * * *",
    start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    catchup=False,
    # Two dates at the same time would compare themselves with the same current run, and the slower would be published
    # last.
    max_active_runs=1,
    params={
        "checkout": Param("/opt/spark_w2v", type="string", description="where this repository is"),
        "config": Param("/opt/spark_w2v/conf/local.toml", type="string", description="what to train"),
        "input": Param("/data/text", type="string", description="a file, a directory or a glob without {}"),
        "output": Param("/data/vectors", type="string", description="the directory of runs and current"),
        "pairs": Param("/data/pairs.tsv", type="string", description="word similarity to judge by"),
        "fail_below": Param(
            0.95, type="number", exclusiveMinimum=0, maximum=1, description="share of the current run's scores"
        ),
        "properties": Param(
            "", type="string", description="Spark's settings: a file; without it the checkout's, for one machine"
        ),
        "reports": Param("", type="string", description="a directory for evaluations; without it, one in output"),
        "run_id": Param("", type="string", description="of the run; without it, the date"),
        "keep_runs": Param(0, type="integer", minimum=0, description="finished runs that stay, the newest; 0 for all"),
    },
    # Exit code 75 says that trying again may help. Operators treat all codes alike, and the others cost little.
    default_args={"retries": 2, "retry_delay": datetime.timedelta(minutes=5)},
) as dag:
    prepare = BashOperator(
        task_id="prepare",
        # Nobody waits hours for a missing file of judgements; and text that has not arrived is worth another look.
        bash_command='test -s "$PAIRS" && compgen -G "$INPUT" > /dev/null && mkdir -p "$REPORTS"',
        env=SHELL,
        append_env=True,
        retries=12,
        retry_delay=datetime.timedelta(minutes=10),
    )

    train = SparkSubmitOperator(
        task_id="train",
        conn_id="spark_local",
        name=f"spark_w2v {RUN_ID}",
        application="{{ params.checkout }}/jobs/train.py",
        properties_file="{{ params.properties or params.checkout ~ '/conf/spark-defaults.conf' }}",
        application_args=[
            "{{ params.config }}",
            "--input",
            "{{ params.input }}",
            "--output",
            "{{ params.output }}",
            "--run-id",
            RUN_ID,
            "--no-publish",
            "--resume",
            # Text that comes in between two tries is no reason to give up.
            "--tolerate-changes",
        ],
    )

    evaluate = BashOperator(
        task_id="evaluate",
        bash_command='"$PYTHON" "$CHECKOUT/jobs/evaluate.py" "$OUTPUT/runs/$RUN_ID" --pairs "$PAIRS" '
        '--json "$REPORTS/$RUN_ID.json"',
        env=SHELL,
        append_env=True,
    )

    gate = BashOperator(
        task_id="gate",
        bash_command='"$PYTHON" "$CHECKOUT/jobs/evaluate.py" "$OUTPUT/runs/$RUN_ID" --pairs "$PAIRS" '
        '--compare "$OUTPUT" --fail-below "$LIMIT"',
        env=SHELL,
        append_env=True,
        retries=0,  # vectors that are worse stay so
    )

    publish = BashOperator(
        task_id="publish",
        bash_command='"$PYTHON" "$CHECKOUT/jobs/publish.py" "$OUTPUT" "$RUN_ID" --if-later --keep-runs "$KEEP_RUNS"',
        env=SHELL,
        append_env=True,
    )

    prepare >> train >> evaluate >> gate >> publish
