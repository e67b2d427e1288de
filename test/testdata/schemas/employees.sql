-- The schema of the sample database employees, without its views.
SET foreign_key_checks = 0;
CREATE TABLE employees (
    emp_no INT NOT NULL,
    birth_date DATE NOT NULL,
    first_name VARCHAR(14) NOT NULL,
    last_name VARCHAR(16) NOT NULL,
    gender ENUM('M','F') NOT NULL,
    hire_date DATE NOT NULL,
    PRIMARY KEY (emp_no)
) ENGINE = InnoDB;
CREATE TABLE departments (
    dept_no CHAR(4) NOT NULL,
    dept_name VARCHAR(40) NOT NULL,
    PRIMARY KEY (dept_no),
    UNIQUE KEY (dept_name)
) ENGINE = InnoDB;
CREATE TABLE dept_manager (
    emp_no INT NOT NULL,
    dept_no CHAR(4) NOT NULL,
    from_date DATE NOT NULL,
    to_date DATE NOT NULL,
    FOREIGN KEY (emp_no) REFERENCES employees (emp_no) ON DELETE CASCADE,
    FOREIGN KEY (dept_no) REFERENCES departments (dept_no) ON DELETE CASCADE,
    PRIMARY KEY (emp_no, dept_no)
) ENGINE = InnoDB;
CREATE TABLE dept_emp (
    emp_no INT NOT NULL,
    dept_no CHAR(4) NOT NULL,
    from_date DATE NOT NULL,
    to_date DATE NOT NULL,
    FOREIGN KEY (emp_no) REFERENCES employees (emp_no) ON DELETE CASCADE,
    FOREIGN KEY (dept_no) REFERENCES departments (dept_no) ON DELETE CASCADE,
    PRIMARY KEY (emp_no, dept_no)
) ENGINE = InnoDB;
CREATE TABLE titles (
    emp_no INT NOT NULL,
    title VARCHAR(50) NOT NULL,
    from_date DATE NOT NULL,
    to_date DATE,
    FOREIGN KEY (emp_no) REFERENCES employees (emp_no) ON DELETE CASCADE,
    PRIMARY KEY (emp_no, title, from_date)
) ENGINE = InnoDB;
CREATE TABLE salaries (
    emp_no INT NOT NULL,
    salary INT NOT NULL,
    from_date DATE NOT NULL,
    to_date DATE NOT NULL,
    FOREIGN KEY (emp_no) REFERENCES employees (emp_no) ON DELETE CASCADE,
    PRIMARY KEY (emp_no, from_date)
) ENGINE = InnoDB;
SET foreign_key_checks = 1;

-- rows
SET foreign_key_checks = 0;
INSERT INTO employees SELECT 10000 + seq, '1953-09-02' + INTERVAL seq DAY, CONCAT('Georgi ', seq), CONCAT('Façello ', seq % 40), 1 + seq % 2,
    '1986-06-26' + INTERVAL seq DAY FROM seq_1_to_300;
INSERT INTO departments SELECT CONCAT('d', LPAD(seq, 3, '0')), CONCAT('Department ', seq) FROM seq_1_to_9;
INSERT INTO dept_manager SELECT 10000 + seq, CONCAT('d00', 1 + seq % 9), '1985-01-01', '9999-01-01' FROM seq_1_to_24;
INSERT INTO dept_emp SELECT 10001 + seq % 300, CONCAT('d00', 1 + seq % 7), '1986-06-26', '9999-01-01' FROM seq_1_to_400;
INSERT INTO titles SELECT 10001 + seq % 300, ELT(1 + seq % 3, 'Staff', 'Senior Engineer', 'Technique Leader'), '1986-06-26' + INTERVAL seq DAY,
    IF(seq % 6, '9999-01-01', NULL) FROM seq_1_to_450;
INSERT INTO salaries SELECT 10001 + seq % 300, 38735 + seq, '1986-06-26' + INTERVAL seq DIV 300 YEAR, '9999-01-01' FROM seq_1_to_900;
SET foreign_key_checks = 1;

-- changes
DELETE FROM employees WHERE emp_no % 10 = 3;
DELETE FROM salaries WHERE from_date > '1988-01-01';
UPDATE titles SET title = 'Engineer' WHERE title = 'Staff' AND emp_no % 2 = 0;
UPDATE dept_emp SET to_date = from_date WHERE dept_no = 'd004';
DELETE FROM departments WHERE dept_no = 'd009';
UPDATE departments SET dept_name = CONCAT(dept_name, ' &c.') WHERE dept_no < 'd003';
INSERT INTO employees VALUES (20001, '2000-02-29', 'New', 'Hand', 'F', '2026-01-01');
INSERT INTO titles VALUES (20001, 'Staff', '2026-01-01', NULL);
